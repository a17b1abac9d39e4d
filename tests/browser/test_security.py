"""What others wrote, in a real browser: it is shown as text and runs nowhere; and the server asks no other machine."""

import json
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import Page

from datasets_tools import describe_pictures
from lora_diffusion import style_names
from tests.browser.conftest import Server
from webui.actions import act
from webui.pages import ORDER
from webui.studio import Studio
from webui.text import Text
from webui.users import LOCAL

CALL = "xss(1)"
XSS = [
    f"<script>{CALL}</script>",
    f"<ScRiPt>{CALL}</sCrIpT>",
    f"<scr<script>ipt>{CALL}</scr</script>ipt>",
    f"</title><script>{CALL}</script>",
    f"</textarea><script>{CALL}</script>",
    f"</script><script>{CALL}</script>",
    f"<img src=x onerror={CALL}>",
    f"<img src=x onerror='{CALL}'>",
    f'<img src="x" onerror="{CALL}">',
    f"<img/src=x/onerror={CALL}>",
    f"<IMG SRC=x OnErRoR={CALL}>",
    f"<img src=x:x onerror={CALL}//",
    f"<svg onload={CALL}>",
    f"<svg/onload={CALL}>",
    f"<svg><script>{CALL}</script></svg>",
    f"<svg><animate onbegin={CALL} attributeName=x dur=1s>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror={CALL}&gt;'>",
    f"<body onload={CALL}>",
    f"<iframe src=javascript:parent.{CALL}></iframe>",
    f"<iframe srcdoc='<script>parent.{CALL}</script>'></iframe>",
    f"<object data=javascript:{CALL}></object>",
    f"<embed src=javascript:{CALL}>",
    f"<a href=javascript:{CALL}>here</a>",
    f"<a href='java\tscript:{CALL}'>here</a>",
    f"<details open ontoggle={CALL}>",
    f"<input autofocus onfocus={CALL}>",
    f"<select autofocus onfocus={CALL}>",
    f"<video><source onerror={CALL}></video>",
    f"<audio src=x onerror={CALL}></audio>",
    f"<marquee onstart={CALL}>",
    f"<style>@keyframes x{{}}</style><b style='animation-name:x' onanimationstart={CALL}></b>",
    f"<link rel=stylesheet href=x onerror={CALL}>",
    f"<meta http-equiv=refresh content='0;url=javascript:{CALL}'>",
    f"<form action=javascript:{CALL}><button>go</button></form>",
    f"<template><img src=x onerror={CALL}></template>",
    f'"><img src=x onerror={CALL}>',
    f"'><img src=x onerror={CALL}>",
    f'" onmouseover={CALL} autofocus onfocus={CALL} x="',
    f"' onmouseover={CALL} autofocus onfocus={CALL} x='",
    f"--><img src=x onerror={CALL}>",
    f"]]><img src=x onerror={CALL}>",
    f"&lt;img src=x onerror={CALL}&gt;",
    f"&#60;img src=x onerror={CALL}&#62;",
    f"\\x3cimg src=x onerror={CALL}\\x3e",
    f"`+{CALL}+`",
    f"${{{CALL}}}",
    "{{constructor.constructor('" + CALL + "')()}}",
    f"[here](javascript:{CALL})",
    f'![x](x"onerror="{CALL})',
    f"javascript:{CALL}",
    f"\u202e<img src=x onerror={CALL}>",
    f"<img src=x onerror={CALL}>\u2028",
]
assert len(XSS) >= 50

pytestmark = pytest.mark.slow

WATCH = "window.ran = 0; window.xss = () => { window.ran += 1; };"
LEFT = (
    "document.querySelectorAll('[onerror], [onload], [onfocus], [ontoggle], [onbegin], [href^=\"javascript:\"]').length"
)
WHEN = "2026-01-02T03:04:05+00:00"

GUARD = """
    import os, sys
    _log = os.environ["EGRESS_LOG"]
    def _tell(line):
        with open(_log, "a") as log:
            log.write(line + "\\n")
    _tell(f"begun {os.getpid()}")
    def _watch(event, arguments):
        if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
            address = arguments[0] if event == "socket.getaddrinfo" else arguments[1]
            host = address[0] if isinstance(address, tuple) else address
            if isinstance(host, str) and host not in ("127.0.0.1", "::1", "localhost", "") and not host.startswith("/"):
                _tell(f"asked {host}")
                raise OSError(f"asked {host}")
    sys.addaudithook(_watch)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server, and all that it starts, in which every way to another machine is noted and refused."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "sitecustomize.py").write_text(textwrap.dedent(GUARD))
    with pytest.MonkeyPatch.context() as patch:
        known = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *([known] if known else [])]))
        patch.setenv("EGRESS_LOG", str(folder / "egress.log"))
        started = Server(folder / "home")
        started.start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def planted(server) -> dict[str, str]:
    """Write every string into every text that the studio keeps; returns the addresses that show most of them."""
    studio = Studio(server.home)

    def do(name: str, /, **arguments: object) -> object:
        return act(studio, LOCAL, name, **arguments)

    id = do("datasets.copy_demo", style=style_names()[0]).id  # type: ignore[attr-defined]
    folder = studio.datasets.find(id).folder
    for number, (picture, text) in enumerate(zip(describe_pictures(folder), XSS * 3, strict=False)):
        do("datasets.caption", id=id, file=picture.file, text=text)
        stated = {key: XSS[(number + shift) % len(XSS)] for shift, key in enumerate(("owner", "licence", "source"))}
        do("datasets.rights", id=id, files=[picture.file], **stated)
    refs = [each.ref for each in studio.library.versions()]
    for number, text in enumerate(XSS):
        plain = "".join(sign if sign.isprintable() else " " for sign in text)
        if number < 20:
            do("datasets.create", name=plain.replace("/", "|")[:80])  # a slash is refused
        do("library.comment", ref=refs[0], text=text)
        path = server.home / "pictures" / "planted.png"
        Image.new("RGB", (64, 64), (number, 90, 90)).save(path)
        studio.library.add_picture(
            path,
            by=plain[:60].strip(),
            when=WHEN,
            settings={"prompt": text, "negative": text, "sampler": text, "base": text},
        )
        job = studio.jobs.submit(
            kind="blend", title=text, owner=text, commands=[["inspect", text, "--json"]], folder=path.parent
        )
        if number >= 2:
            studio.jobs.stop(job.id)
    for ref, some in zip(refs, (XSS[:25], XSS[25:]), strict=False):
        do(
            "library.describe",
            ref=ref,
            trigger=some[6],
            tags=[one[:64] for one in some],
            licence=some[7],
            owner=some[8],
            notes="\n".join(some),
            card="\n".join(some),
        )
        do("library.submit", ref=ref, reason=some[9]) if studio.library.version(ref).stage == "draft" else None
    studio.keep_shared_setting("bases", "[]")
    studio.jobs.wake()
    return {"set": id, "ref": refs[0]}


@pytest.fixture
def page(browser, server, planted) -> Iterator[Page]:
    """A browser in which every string that runs is counted, and every request to elsewhere is noted."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    context.add_init_script(WATCH)
    found, elsewhere = context.new_page(), []
    found.set_default_timeout(60_000)
    ours = (server.address, "data:", "blob:", "about:")
    found.on("request", lambda asked: None if asked.url.startswith(ours) else elsewhere.append(asked.url))
    yield found
    assert found.evaluate("window.ran") == 0
    assert found.evaluate(LEFT) == 0
    context.close()
    assert elsewhere == []


def look(page: Page, server: Server, path: str) -> None:
    """Load a page and wait for what comes by events of its own."""
    page.goto(f"{server.address}{path}")
    page.locator("h1").first.wait_for()
    page.wait_for_timeout(1500)
    assert page.evaluate("window.ran") == 0, path
    assert page.evaluate(LEFT) == 0, path


def walk(page: Page, server: Server, path: str) -> None:
    """Look at every tab of a page."""
    look(page, server, path)
    for tab in page.locator("button[role=tab]:enabled:visible").all()[:8]:
        tab.click()
        page.wait_for_timeout(300)


@pytest.mark.parametrize("name", ORDER)
def test_what_others_wrote_runs_on_no_page(page, server, name):
    walk(page, server, f"/en/{'' if name == ORDER[0] else name}")


@pytest.mark.parametrize(
    "path",
    [
        "datasets?id={set}",
        "train?dataset={set}",
        "library?ref={ref}",
        "review?ref={ref}",
        "export?ref={ref}",
        "create?style={ref}",
    ],
)
def test_what_others_wrote_runs_in_no_view_of_one_thing(page, server, planted, path):
    walk(page, server, f"/en/{path.format(**{key: quote(value, safe='') for key, value in planted.items()})}")
    if path.startswith(("datasets", "library", "review")):
        assert "xss(1)" in page.content()  # as text: or nothing was tried


@pytest.mark.parametrize(
    "path",
    [
        "create?from=",
        "create?style=",
        "datasets?id=",
        "library?ref=",
        "review?ref=",
        "export?ref=",
        "train?job=",
        "train?dataset=",
        "blend?from=",
        "?x=",
    ],
)
def test_an_address_that_somebody_sends_runs_nothing(page, server, path):
    look(page, server, f"/en/{path}{quote(XSS[6] + XSS[35] + XSS[45])}")


@pytest.mark.parametrize("number", [6, 45])
def test_the_text_inside_a_picture_runs_nothing(page, server, tmp_path, number):
    inside = PngInfo()
    inside.add_text(
        "parameters", f"{XSS[number]}\nNegative prompt: {XSS[number]}\nSteps: 5, Sampler: {XSS[6]}, Seed: 1"
    )
    path = tmp_path / "dropped.png"
    Image.new("RGB", (64, 64)).save(path, pnginfo=inside)
    look(page, server, "/en/create")
    page.get_by_role("button", name=Text("en")("create.drop")).click()
    page.locator("input[type=file][accept='.png']").set_input_files(str(path))
    page.wait_for_function("document.querySelector('#prompt textarea').value !== ''")
    page.wait_for_timeout(1500)


def test_a_style_that_a_picture_names_is_told_as_text(page, server, tmp_path):
    name, inside = f"<b id=planted>{XSS[6]}</b>", PngInfo()
    settings = {"prompt": "a kite", "seed": 1, "width": 64, "height": 64, "steps": 5, "guidance": 7.0, "sampler": ""}
    inside.add_text("lora_diffusion", json.dumps({**settings, "base": "", "adapters": {name: 1.0}}))
    path = tmp_path / "dropped.png"
    Image.new("RGB", (64, 64)).save(path, pnginfo=inside)
    look(page, server, "/en/create")
    page.get_by_role("button", name=Text("en")("create.drop")).click()
    page.locator("input[type=file][accept='.png']").set_input_files(str(path))
    page.get_by_text(name).first.wait_for()
    assert page.locator("#planted").count() == 0


def test_a_name_that_an_upload_brings_runs_nothing(page, server, planted, tmp_path):
    path = tmp_path / "<img src=x onerror=xss(1)>.txt"
    path.write_text("no picture has this name")
    look(page, server, f"/en/datasets?id={planted['set']}")
    page.locator("input[type=file]").first.set_input_files(str(path))
    page.get_by_text("no picture has this name").wait_for()


def test_the_server_and_all_that_it_starts_ask_no_other_machine(page, server, planted):
    look(page, server, "/en/create")
    page.locator("#go").click()
    page.locator("#prompt textarea").first.wait_for()
    page.wait_for_timeout(4000)
    log = Path(server.home.parent / "egress.log").read_text()
    assert server.process is not None
    assert f"begun {server.process.pid}\n" in log  # or it would prove nothing
    assert log.count("begun") > 1
    assert "asked" not in log
