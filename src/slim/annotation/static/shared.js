// One stream of news for all tabs of a page: browsers allow six connections to a server, and a stream holds one.

import {follow} from "./follow.js";

const streams = new Map(); // address -> the tabs that listen, and the last news

addEventListener("connect", ({ports: [port]}) => {
  port.onmessage = ({data: address}) => {
    if (!streams.has(address)) begin(address);
    const {ports, last} = streams.get(address);
    ports.push(port);
    if (last) port.postMessage(last);
  };
});

function begin(address) {
  const stream = {ports: [], last: null};
  const tell = message => stream.ports.forEach(port => port.postMessage(message));
  streams.set(address, stream);
  follow(address, news => tell((stream.last = {news})), () => tell({back: true}));
}
