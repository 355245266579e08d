// One stream of news for all tabs of a page: browsers allow six connections to a server, and a stream holds one.

import {follow} from "./follow.js";

const ports = [];
let followed = false, last = null;

addEventListener("connect", ({ports: [port]}) => {
  port.onmessage = ({data: address}) => {
    ports.push(port);
    if (last) port.postMessage({news: last});
    if (followed) return;
    followed = true;
    follow(address, news => tell({news: (last = news)}), () => tell({back: true}));
  };
});

const tell = message => ports.forEach(port => port.postMessage(message));
