"""Events that are sent while the server ends the stream of answers are answered all the same."""

import re

import pytest

LATE = """
const plain = window.fetch;
const path = (input) => new URL(input instanceof Request ? input.url : input, location.href).pathname;
let release;
const released = new Promise((resolve) => { release = resolve; });
window.fetch = async (input, init) => {
  const answer = await plain(input, init);
  if (path(input).endsWith("/queue/join") && init.body.includes("Moons")) setTimeout(release, 300);
  if (!path(input).endsWith("/queue/data") || location.search) return answer;
  const late = new TransformStream({ async transform(chunk, page) {
    for (const message of chunk.split(/(?=data: )/)) {
      if (message.includes("close_stream")) { window.held = true; HOLD }
      page.enqueue(message);
    }
  } });
  const words = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(late);
  return new Response(words.pipeThrough(new TextEncoderStream()), answer);
};
"""
"""Holds the word that the stream has ended."""


@pytest.mark.parametrize("hold", ["await released;", "continue;"], ids=["until another event was sent", "for ever"])
def test_an_event_is_answered_while_the_stream_ends_or_after_it_broke_off(visit, hold):
    visit.page.add_init_script(LATE.replace("HOLD", hold))
    page = visit.open("/en/datasets")
    page.wait_for_function("window.held")
    page.get_by_label("Name of a new set").fill("Moons")
    page.get_by_role("button", name="Create set").click()
    page.wait_for_url(re.compile(r"datasets\?id=[0-9a-f]{16}"))
    page.get_by_text("No pictures yet. Drop 10 to 50").wait_for()
