// Runs before Gradio: requests of our own pages carry the token that proves they are ours.
(() => {
  const token = () => (document.cookie.match(/(?:^|; )studio_csrf=([^;]*)/) || [])[1] || "";
  const ours = (url) => new URL(url, location.href).origin === location.origin;
  const plain = window.fetch;
  window.fetch = (input, init = {}) => {
    const url = input instanceof Request ? input.url : input;
    const method = (init.method || (input instanceof Request ? input.method : "GET")).toUpperCase();
    if (method === "GET" || method === "HEAD" || !ours(url)) return plain(input, init);
    const headers = new Headers(init.headers || (input instanceof Request ? input.headers : undefined));
    headers.set("x-csrf-token", token());
    return plain(input, { ...init, headers });
  };
  const open = XMLHttpRequest.prototype.open, send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    this.studioGuarded = !/^(GET|HEAD)$/i.test(method) && ours(url);
    return open.call(this, method, url, ...rest);
  };
  XMLHttpRequest.prototype.send = function (body) {
    if (this.studioGuarded) this.setRequestHeader("x-csrf-token", token());
    return send.call(this, body);
  };
  document.addEventListener("keydown", (event) => {
    const button = event.key === "Enter" && (event.ctrlKey || event.metaKey) ? "#go, #mix" : event.key === "Escape" ? "#stop" : "";
    if (button) document.querySelector(button)?.click();
  });
  const language = () => { document.documentElement.lang = STUDIO_LANGUAGE; };
  language();
  document.addEventListener("DOMContentLoaded", language);
})();
