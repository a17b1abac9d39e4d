"""What a page gets to build with: strings, actions in the visitor's name, addresses of files."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from datasets_tools import DatasetError
from lora_diffusion import LoraDiffusionError
from webui.actions import WrongArguments, act, actions
from webui.errors import NotAllowed, StudioError
from webui.refusals import as_sentence, refusal
from webui.studio import Studio
from webui.text import Text
from webui.users import LOCAL, User

__all__ = ["REFUSALS", "Context"]

REFUSALS = (StudioError, LoraDiffusionError, DatasetError)
"""What tells people in a sentence why something was not done."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Context:
    """The studio in one language. `root` is where the pages of this language are mounted, such as /en."""

    studio: Studio
    t: Text
    root: str

    def user(self, request: gr.Request) -> User:
        """Return who sends a request, with the role of this moment."""
        name = request.username or ""
        found = self.studio.users.find(name)
        if found is None and name == LOCAL.name and not self.studio.users:
            return LOCAL
        if found is None:
            raise NotAllowed(self.t("common.signed_out"), hint=self.t("common.sign_in_again"))
        return found

    def act(self, request: gr.Request, name: str, /, **arguments: Any) -> Any:
        """Do an action in the visitor's name. Raises what `act` raises; wrap handlers in `handler`."""
        return act(self.studio, self.user(request), name, **arguments)

    def handler(self, function: Callable[P, R]) -> Callable[P, R]:
        """Let a handler's refusals be shown as one sentence with the next step, and nothing of the inside."""
        if _is_generator(function):

            @functools.wraps(function)
            def run_all(*args: P.args, **kwargs: P.kwargs) -> Iterator[Any]:
                try:
                    yield from function(*args, **kwargs)  # type: ignore[misc]
                except REFUSALS as error:
                    raise self.refusal(error) from error

            return run_all  # type: ignore[return-value]

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except REFUSALS as error:
                raise self.refusal(error) from error

        return run

    def refusal(self, error: Exception) -> gr.Error:
        """Tell what was refused, and return what ends a handler without a message of Gradio's own, titled Error."""
        text = self.sentence(str(error))
        hint = "" if isinstance(error, WrongArguments) else self.sentence(getattr(error, "hint", ""))
        shown = Markup("{}<br>{}").format(text, hint) if hint else Markup.escape(text)
        gr.Warning(str(shown), title=self.t("common.did_not_work"), duration=12)
        return gr.Error(str(shown), visible=False, print_exception=False)

    def needs(self, name: str) -> str:
        """Return the class of what does an action: who may not do it does not see it."""
        return f"for-{actions()[name].role}"

    def lacks(self, name: str) -> str:
        """Return the class of what is shown to those alone who may not do an action."""
        return f"below-{actions()[name].role}"

    def worded(self, text: str) -> str:
        """Return in the language of the page what was refused or told in English, without where the studio lies."""
        return refusal(self.t, self.studio.without_places(text))

    def sentence(self, text: str) -> str:
        """Return `worded` as a sentence."""
        return as_sentence(self.worded(text))

    def named(self, user: str) -> str:
        """Return how a page calls somebody who did something: the one at a machine of their own is no name."""
        return self.t("common.you") if user == LOCAL.name else user

    def render(self, template: str, /, **values: Any) -> str:
        """Return a template of templates/ filled in; everything is escaped."""
        page = _templates().get_template(f"{template}.html.j2")
        own = {"t": self.t, "root": self.root, "needs": self.needs, "lacks": self.lacks}
        told = {"worded": self.worded, "sentence": self.sentence, "named": self.named}
        return page.render(**own, **told, **values)

    def on(self, event: Any, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Bind a handler to an event: refusals become sentences, and the endpoint is in no public list."""
        return event(self.handler(function), *args, api_visibility="private", **options)

    def shot(self, picture: Any) -> dict[str, Any]:
        """Return a picture of the library as the templates show one; its link opens it in Create."""
        return {
            "id": picture.id,
            "src": self.file(picture.path),
            "alt": picture.settings.get("prompt", ""),
            "caption": picture.settings.get("prompt", ""),
            "href": f"{self.root}/create?from={picture.id}",
        }

    def thumbnail(self, version: Any) -> str:
        """Return the address of a style's picture, or nothing where it has none."""
        chosen = version.details.thumbnail
        samples = [] if chosen else self.studio.library.samples(version.ref)
        if not chosen and not samples:
            return ""
        return self.file(Path(self.studio.library.object(chosen) if chosen else samples[0].path), name="style.png")

    def file(self, path: Path, *, name: str = "", owner: str = "") -> str:
        """Return the address under which a browser gets a file."""
        return self.studio.files.share(path, name=name, owner=owner)


def _is_generator(function: Callable[..., Any]) -> bool:
    import inspect

    return inspect.isgeneratorfunction(function)


@functools.cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("webui"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
