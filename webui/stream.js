// Gradio answers all events of a page through one stream, which the server ends as soon as none is left. An event that
// is sent while that word is on its way would wait for ever: the page takes the stream for open, and opens no other.
// Here such an ending is kept from the page, and the stream is taken up again.
(() => {
  const plain = window.fetch;
  const joining = new Set(), waiting = new Set(), early = new Set();
  const join = async (sent) => {
    const answer = await sent;
    const id = answer.ok && (await answer.clone().json()).event_id;
    if (id && !early.delete(id)) waiting.add(id);
    return answer;
  };
  // Events are joined in requests of their own, so an answer may be here before its event is known.
  const answered = (id) => { if (!waiting.delete(id)) early.add(id); };

  const follow = async (request) => {
    const first = await plain(request.clone());
    if (!first.ok) return first;
    const forward = async (source, page) => {
      const reader = source.body.pipeThrough(new TextDecoderStream()).getReader(), encoder = new TextEncoder();
      for (let rest = "", part = await reader.read(); !part.done; part = await reader.read()) {
        const frames = (rest + part.value).split("\n\n");
        rest = frames.pop();
        for (const frame of frames) {
          const message = frame.startsWith("data:") ? JSON.parse(frame.slice(5)) : {};
          if (message.msg === "process_completed") answered(message.event_id);
          if (message.msg === "close_stream") {
            while (joining.size) await Promise.allSettled(joining);
            if (waiting.size) return true;
          }
          page.enqueue(encoder.encode(frame + "\n\n"));
        }
      }
      return false;
    };
    const run = async (page) => {
      try {
        for (let source = first; await forward(source, page);) source = await plain(request.clone());
        page.close();
      } catch (error) {
        page.error(error);
      }
      waiting.clear();
    };
    return new Response(new ReadableStream({ start: (page) => { run(page); } }), first);
  };

  window.fetch = (input, init) => {
    const path = new URL(input instanceof Request ? input.url : input, location.href).pathname;
    if (path.endsWith("/queue/data")) return follow(new Request(input, init));
    const sent = plain(input, init);
    if (!path.endsWith("/queue/join")) return sent;
    const joined = join(sent), ended = joined.catch(() => {}).finally(() => joining.delete(ended));
    joining.add(ended);
    return joined;
  };
})();
