"""Strengths stay with their styles: out of a text, and while other styles come and go."""

from contextlib import contextmanager

from playwright.sync_api import expect

PATIENCE = 30_000
"""Milliseconds for what takes a second on an idle machine."""


def text_of(visit):
    """Open Create and its text form."""
    page = visit.create()
    page.locator("button.label-wrap", has_text="As text, for other programs").click()
    return page, page.get_by_label("Prompt with styles")


@contextmanager
def answers_held(page):
    """Let nothing that the page asks get an answer before the end of the block; yield what waits for a question."""
    held, holds = [], True
    page.route("**/queue/join*", lambda route: held.append(route) if holds else route.continue_())

    def asked():
        page.wait_for_timeout(1000)
        assert held

    yield asked
    holds = False
    for route in held:
        route.continue_()


def test_a_strong_style_in_a_text_stays_as_strong(visit):
    page, text = text_of(visit)
    strength = page.get_by_role("spinbutton", name="papercut, strength in %")
    for written, shown in (("1.8", "180"), ("-0.5", "-50"), ("3", "200")):
        text.fill(f"a crown <lora:papercut:{written}>")
        text.press("Enter")
        expect(strength).to_have_value(shown, timeout=PATIENCE)
        expect(text).to_have_value(f"a crown <lora:papercut:{int(shown) / 100:g}>", timeout=PATIENCE)
    expect(page.get_by_text("Stronger than 200 %")).to_be_visible(timeout=PATIENCE)


def test_a_style_keeps_its_strength_while_others_come_and_go(visit):
    page, text = text_of(visit)
    text.fill("a crown <lora:papercut:0.5> <lora:blueprint:1.2>")
    text.press("Enter")
    papercut, blueprint = (
        page.get_by_role("spinbutton", name=f"{name}, strength in %") for name in ("papercut", "blueprint")
    )
    expect(papercut).to_have_value("50", timeout=PATIENCE)
    page.locator(".token-remove").first.click()
    expect(papercut).to_have_count(0, timeout=PATIENCE)
    expect(blueprint).to_have_value("120")
    expect(text).to_have_value("a crown <lora:blueprint:1.2>", timeout=PATIENCE)
    page.get_by_role("combobox", name="Styles").click()
    page.get_by_role("option", name="papercut").click()
    expect(papercut).to_have_value("100", timeout=PATIENCE)
    expect(blueprint).to_have_value("120")


def test_a_row_of_a_blend_keeps_its_values_while_others_come_and_go(visit):
    page, strengths = visit.blend()
    second = strengths.nth(1).input_value()
    assert strengths.first.input_value() != second
    page.locator(".token-remove").first.click()
    expect(strengths).to_have_count(1, timeout=PATIENCE)
    expect(strengths).to_have_value(second)


def test_what_is_being_typed_in_the_text_stays_when_an_answer_comes(visit):
    page, text = text_of(visit)
    prompt = page.locator("#prompt textarea")
    prompt.fill("a rocket")
    expect(text).to_have_value("a rocket", timeout=PATIENCE)
    with answers_held(page) as asked:
        prompt.fill("a crown")
        asked()
        text.fill("a cactus <lora:papercut:0.7>")
    page.wait_for_timeout(3000)
    assert text.input_value() == "a cactus <lora:papercut:0.7>"
    text.press("Enter")
    expect(prompt).to_have_value("a cactus", timeout=PATIENCE)
    expect(page.get_by_role("spinbutton", name="papercut, strength in %")).to_have_value("70", timeout=PATIENCE)
    prompt.fill("a guitar")
    expect(text).to_have_value("a guitar <lora:papercut:0.7>", timeout=PATIENCE)


def test_what_is_typed_while_a_style_is_picked_stays_beside_its_trigger(visit):
    page = visit.create()
    prompt = page.locator("#prompt textarea")
    prompt.fill("a rocket")
    page.wait_for_timeout(1000)
    with answers_held(page) as asked:
        page.get_by_role("combobox", name="Styles").click()
        page.get_by_role("option", name="papercut").first.click()
        page.keyboard.press("Escape")
        asked()
        prompt.fill("a rocket, at night")
    expect(prompt).to_have_value("papercut, a rocket, at night", timeout=PATIENCE)
    tick = page.get_by_role("checkbox", name="papercut")
    expect(tick).to_be_checked(timeout=PATIENCE)
    tick.uncheck()
    expect(prompt).to_have_value("a rocket, at night", timeout=PATIENCE)
