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
    // Hand on what a stream says until it ends: by a word of the server, or because it broke off in order.
    const forward = async (source, page) => {
      const reader = source.body.pipeThrough(new TextDecoderStream()).getReader(), encoder = new TextEncoder();
      for (let rest = "", part = await reader.read(); !part.done; part = await reader.read()) {
        const frames = (rest + part.value).split("\n\n");
        rest = frames.pop();
        for (const frame of frames) {
          const message = frame.startsWith("data:") ? JSON.parse(frame.slice(5)) : {};
          if (message.msg === "close_stream") return;
          if (message.msg === "process_completed") answered(message.event_id);
          if (message.msg === "unexpected_error") waiting.clear(); // of all events: none of them goes on
          page.enqueue(encoder.encode(frame + "\n\n"));
        }
      }
    };
    const run = async (page) => {
      try {
        await forward(first, page);
        while (joining.size) await Promise.allSettled(joining);
        while (waiting.size) {
          const next = await plain(request.clone());
          if (!next.ok) throw new Error(`${next.status} ${next.statusText}`);
          await forward(next, page);
          while (joining.size) await Promise.allSettled(joining);
        }
        page.enqueue(new TextEncoder().encode('data: {"msg": "close_stream"}\n\n'));
        page.close();
      } catch (error) {
        waiting.clear();
        page.error(error);
      }
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
