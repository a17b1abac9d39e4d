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
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) document.querySelector("#go, #mix")?.click();
  });
  // Gradio tells that a slider was let go by the pointer alone; what follows sliders follows the keys too.
  document.addEventListener("keyup", (event) => {
    const moves = /^(Arrow|Page|Home$|End$)/.test(event.key) && event.target.matches?.("input[type=range]");
    if (moves) event.target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
  });
  // Escape closes lists and dialogs, and means nothing else while one is open or somebody writes. Asked before they
  // close, which is why this listens on the way down.
  const shown = (element) => element.getClientRects().length > 0;
  const opened = () => [...document.querySelectorAll("[role=listbox], [role=dialog], dialog[open]")].some(shown);
  document.addEventListener("keydown", (event) => {
    const at = document.activeElement;
    const free = !at || at === document.body || at.tagName === "BUTTON";
    if (event.key === "Escape" && free && !opened()) document.querySelector("#stop")?.click();
  }, true);
  document.documentElement.dataset.role = (document.cookie.match(/(?:^|; )studio_role=([a-z]+)/) || [])[1] || "admin";
  const language = () => { document.documentElement.lang = STUDIO_LANGUAGE; };
  language();
  document.addEventListener("DOMContentLoaded", language);
  // Gradio heads its messages with their kind, in English; the title that it was given is shown nowhere. Some are its
  // own: of a file of another kind, and of a studio that does not answer.
  const known = [
    [/^Invalid file types?: (.*)\. Only (.*) allowed\.$/, "kind"],
    [/^Connection (?:to the server was lost|errored out)/, "lost"],
  ];
  const headed = () => {
    for (const title of document.querySelectorAll(".toast-title:not([data-told])")) {
      const word = STUDIO_WORDS[[...title.classList].find((name) => name in STUDIO_WORDS)];
      if (word) title.firstChild.nodeValue = `${word} `;
      title.dataset.told = "";
    }
    for (const text of document.querySelectorAll("[data-testid=toast-text]:not([data-told])")) {
      for (const [pattern, word] of known) {
        const found = text.textContent.trim().match(pattern);
        if (found) text.textContent = STUDIO_WORDS[word].replace("{name}", () => found[1]).replace("{kinds}", () => found[2]);
      }
      text.dataset.told = "";
    }
    for (const close of document.querySelectorAll("[data-testid=toast-close][aria-label=Close]")) {
      close.ariaLabel = STUDIO_WORDS.close;
    }
  };
  new MutationObserver(headed).observe(document, { childList: true, subtree: true });
})();
