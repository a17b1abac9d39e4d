"""A base model with the adapters that are judged: draws, and answers questions, at any weights."""

import hashlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lora_diffusion.devices import DTYPES, choose_device, choose_precision
from lora_diffusion.evaluation.evidence import BANDS, BASE, Drawn, Mix, Question
from lora_diffusion.evaluation.features import Array
from lora_diffusion.evaluation.subject import Subject
from lora_diffusion.families import detect
from lora_diffusion.families.attention import use_attention
from lora_diffusion.families.base import Conditioning
from lora_diffusion.generation.generator import Generator
from lora_diffusion.seeds import generator, seed_of

__all__ = ["Studio"]

_BATCH_PIXELS = {"cpu": 16 * 128 * 128, "cuda": 8 * 1024 * 1024}
"""Pixels drawn at once: larger batches are no faster there, and this many take less than 1 and 20 GB."""


class Studio:
    """Owns a loaded base model; use as a context manager. It is a `Denoiser`."""

    def __init__(self, subject: Subject, *, seed: int, precision: str, device: str, tokenizer: str = "") -> None:
        place = choose_device(device)
        self._subject, self._seed = subject, seed
        self._family = detect(subject.base)
        self._components = self._family.load(
            subject.base, dtype=DTYPES[choose_precision(precision, place)], device=place, tokenizer=tokenizer
        )
        use_attention(self._components.denoiser, self._components.text_encoders, "auto")
        self._generator = Generator(subject.base_name, self._family, self._components)
        self._names: dict[str, str] = {}
        self._latents: dict[str, Tensor] = {}
        self._batch = max(1, _BATCH_PIXELS[place.type] // subject.resolution**2)

    def __enter__(self) -> Self:
        self._generator.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._generator.__exit__(kind, error, trace)

    @property
    def batch(self) -> int:
        """Pictures that are drawn at once."""
        return self._batch

    def load(self) -> None:
        """Put the adapters in, at weight 0."""
        self._names["adapter"] = self._generator.add(self._subject.adapter, 0.0)
        if self._subject.against:
            self._names["other"] = self._generator.add(self._subject.against, 0.0)

    def draw(self, mix: Mix, words: Sequence[str], places: Sequence[tuple[int, int]], *, steps: int) -> list[Drawn]:
        """Draw one batch: prompts with their places (index of the prompt, number of the picture)."""
        self._weigh(mix)
        seeds = [seed_of(self._seed, "evaluation", *place) for place in places]
        pictures = self._generator.generate_many(words, seeds=seeds, steps=steps)
        return [
            Drawn(prompt=prompt, seed=seed, pixels=np.asarray(picture.image.convert("RGB")))
            for (prompt, _), seed, picture in zip(places, seeds, pictures, strict=True)
        ]

    def losses(self, mix: Mix, questions: Sequence[Question]) -> Array:
        found = []
        for answers, targets in self._asked(mix, questions):
            found.append((answers - targets).square().flatten(1).mean(dim=1).double().cpu())
        return torch.cat(found).numpy() if found else np.zeros(0)

    def answers(self, mix: Mix, questions: Sequence[Question]) -> NDArray[np.float32]:
        return torch.cat([answers.flatten(1).cpu() for answers, _ in self._asked(mix, questions)]).numpy()

    @torch.no_grad()
    def _asked(self, mix: Mix, questions: Sequence[Question]) -> list[tuple[Tensor, Tensor]]:
        """Return answers and targets [n, c, h, w] of each batch; one batch has one set of weights."""
        self._weigh(mix)
        texts = self._texts(tuple(dict.fromkeys(each.words for each in questions)))
        size = 2 * self._batch  # drawing asks twice for each picture, for guidance
        return [self._answered(questions[at : at + size], texts) for at in range(0, len(questions), size)]

    def _answered(self, questions: Sequence[Question], texts: Mapping[str, Conditioning]) -> tuple[Tensor, Tensor]:
        goal, device = self._components.objective, self._components.device
        latents = torch.stack([self._encoded(each) for each in questions]).to(device)
        noise = torch.stack([self._noise(each, latents.shape[1:]) for each in questions]).to(device)
        bands = torch.tensor([each.band for each in questions])
        t = ((2 * bands + 1) * goal.timesteps // (2 * len(BANDS))).to(device)
        said = {key: torch.stack([texts[each.words][key] for each in questions]) for key in texts[questions[0].words]}
        answers = self._family.predict(self._components, goal.noised(latents, noise, t), t, said)
        return answers, goal.target(latents, noise, t)

    def _texts(self, words: Sequence[str]) -> dict[str, Conditioning]:
        """Return what the denoiser is told by each text, at the weights that are set, one sample each."""
        side = (self._subject.resolution, self._subject.resolution)
        sizes = self._family.size_ids(side, (0, 0), side)
        result: dict[str, Conditioning] = {}
        for start in range(0, len(words), self._batch):
            some = words[start : start + self._batch]
            tokens = dict(self._family.tokenize(self._components, some))
            tokens |= {key: each.expand(len(some), *each.shape) for key, each in sizes.items()}
            said = self._family.encode_tokens(self._components, tokens)
            result |= {word: {key: each[at] for key, each in said.items()} for at, word in enumerate(some)}
        return result

    def _encoded(self, question: Question) -> Tensor:
        key = _digest(question)
        if key not in self._latents:
            pixels = torch.from_numpy(question.picture.transpose(2, 0, 1) / np.float32(127.5) - np.float32(1))
            self._latents[key] = self._family.encode_images(self._components, pixels[None])[0].cpu()
        return self._latents[key]

    def _noise(self, question: Question, shape: torch.Size) -> Tensor:
        """The noise belongs to the picture, not to the words or the weights: whatever is compared has the same."""
        purpose = ("evaluation", _digest(question), question.band, question.draw)
        return torch.randn(shape, generator=generator(self._seed, *purpose))

    def _weigh(self, mix: Mix) -> None:
        wanted = {role: weight for role, weight in mix._asdict().items() if weight or role in self._names}
        self._generator.blend = {self._names[role]: weight for role, weight in wanted.items()}

    def is_base(self, questions: Sequence[Question], answers: NDArray[np.float32]) -> bool:
        """Say whether the answers at weight 0 are the same, bit by bit, as those given before `load`."""
        return bool(np.array_equal(self.answers(BASE, questions), answers))


def _digest(question: Question) -> str:
    return hashlib.blake2b(question.picture.tobytes(), digest_size=16).hexdigest()
