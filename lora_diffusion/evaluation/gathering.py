"""Draws what the metrics judge."""

from collections.abc import Sequence
from pathlib import Path

from lora_diffusion.evaluation.design import Design
from lora_diffusion.evaluation.evidence import BANDS, BASE, Drawn, Evidence, Mix, Prompt, Question
from lora_diffusion.evaluation.studio import Studio
from lora_diffusion.evaluation.subject import OnProgress, Subject

__all__ = ["gather"]


def gather(subject: Subject, design: Design, studio: Studio, *, clip: Path | None, on_progress: OnProgress) -> Evidence:
    """Draw with the base model, then with the adapter at each weight, and where there is something to tell also
    without the trigger and with the other adapter."""
    artist = _Artist(subject, design, studio, on_progress)
    base = artist.draw(BASE, full=False)
    questions = [
        Question(picture=each.pixels, words=subject.prompts[each.prompt].full, band=band)
        for each, band in zip(base, range(len(BANDS)), strict=False)
    ]
    bare = studio.answers(BASE, questions)
    studio.load()
    zero_is_base = studio.is_base(questions, bare)
    sweep = {weight: artist.draw(Mix(adapter=weight)) for weight in design.weights}
    plain = artist.draw(Mix(adapter=1.0), full=False) if artist.triggered else None
    other = artist.draw(Mix(other=1.0), trigger=subject.against.trigger) if subject.against else None
    return Evidence(
        adapter=subject.adapter,
        prompts=subject.prompts,
        base=base,
        sweep=sweep,
        denoiser=studio,
        zero_is_base=zero_is_base,
        plain=plain,
        training=subject.training,
        held_out=subject.held_out,
        against=subject.against,
        other=other,
        clip=clip,
        seed=design.seed,
    )


class _Artist:
    """Draws every prompt of a subject in batches, and tells how many pictures are done."""

    def __init__(self, subject: Subject, design: Design, studio: Studio, on_progress: OnProgress) -> None:
        self._prompts, self._design, self._studio, self._tell = subject.prompts, design, studio, on_progress
        self._places = [(index, number) for index in range(len(subject.prompts)) for number in range(design.seeds)]
        self._done = 0
        rounds = 1 + len(design.weights) + self.triggered + (subject.against is not None)
        self._total = rounds * len(self._places)

    @property
    def triggered(self) -> bool:
        """Whether the trigger makes a difference to any prompt."""
        return any(each.full != each.content for each in self._prompts)

    def draw(self, mix: Mix, *, full: bool = True, trigger: str | None = None) -> tuple[Drawn, ...]:
        """Draw all prompts, with the adapter's trigger unless not `full`, or with another one."""
        found: list[Drawn] = []
        for start in range(0, len(self._places), self._studio.batch):
            places = self._places[start : start + self._studio.batch]
            words = self._words([self._prompts[index] for index, _ in places], full, trigger)
            found += self._studio.draw(mix, words, places, steps=self._design.steps)
            self._done += len(places)
            self._tell("drawing", self._done, self._total)
        return tuple(found)

    @staticmethod
    def _words(prompts: Sequence[Prompt], full: bool, trigger: str | None) -> list[str]:
        from datasets_tools.caption import with_trigger

        if trigger is not None:
            return [with_trigger(each.content, trigger) for each in prompts]
        return [each.full if full else each.content for each in prompts]
