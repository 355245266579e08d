// News from the server as events, for as long as somebody listens.

export function follow(address, onNews, onBack) {
  const source = new EventSource(address);
  let open = false;
  source.onmessage = event => onNews(JSON.parse(event.data));
  source.onopen = () => {
    if (open) onBack();
    open = true;
  };
  // After an answer that is no stream (a restart with another token) the browser gives up: begin anew.
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(address, onNews, onBack), 3000);
  };
}
