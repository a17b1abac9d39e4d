"""A run in work: one iteration is one optimiser step over one global batch, whatever the number of processes."""

import shutil
import statistics
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets_tools.cache import TensorCache
from datasets_tools.storage import replacing
from lora_diffusion.adapters.inject import trained_weights
from lora_diffusion.errors import NonFiniteLoss, SnapshotError
from lora_diffusion.families.base import Components, Family
from lora_diffusion.files.adapter import Adapter, write_adapter
from lora_diffusion.seeds import seeded
from lora_diffusion.training import snapshot
from lora_diffusion.training.best import Best
from lora_diffusion.training.best import prune as prune_best
from lora_diffusion.training.books import Books
from lora_diffusion.training.candidates import candidate_path, forget_after, is_candidate
from lora_diffusion.training.data import GlobalBatch, TrainingData
from lora_diffusion.training.encode import Encoder, Texts, encode_sources
from lora_diffusion.training.events import OnEvent, Previewed, Snapshotted, Started, Stepped, Validated
from lora_diffusion.training.loss import LossModule
from lora_diffusion.training.metadata import metadata_of
from lora_diffusion.training.optim import optimizer, rate_factor, set_rate
from lora_diffusion.training.preview import draw_previews
from lora_diffusion.training.run import Run, Status
from lora_diffusion.training.samples import Sources
from lora_diffusion.training.stopping import StopRequest
from lora_diffusion.training.validation import Validation

__all__ = ["NAME", "Session", "Trained"]

NAME = "trained"
"""What the adapter is called while it is in the model; its own name is for people."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a run ended. `adapter` is None where it was stopped; `seconds_per_step` is the median.

    `kept` is the step of which the adapter is: before `steps` where the best was to be kept. `reason` says why a run
    ended before its plan's last step.
    """

    run: Path
    adapter: Path | None
    status: Status
    steps: int
    seconds_per_step: float
    kept: int = 0
    reason: str = ""


@dataclass(kw_only=True)
class Session:
    """A run in work: what is loaded, and how far it is."""

    run: Run
    accelerator: Any
    family: Family
    components: Components
    sources: Sources
    parameters: Mapping[str, nn.Parameter]
    on_event: OnEvent
    validation: Validation | None = None
    best: Best = field(default_factory=Best)
    step: int = 0
    seconds: list[float] = field(default_factory=list)

    def encode(self) -> None:
        """Encode the pictures and captions, or find them encoded."""
        plan, cache = self.run.plan, TensorCache(self.run.cache)
        encoder = Encoder(self.family, self.components, cache, plan=plan)
        texts = Texts(encoder, train_text=self.train_text)
        with self.accelerator.main_process_first(), cache:  # the others find the cache filled
            encoded = encode_sources(self.sources, encoder, texts, plan, self.on_event)
        self.data = TrainingData(encoded, texts, plan=plan, timesteps=self.components.objective.timesteps)
        if encoded.validation:
            self.validation = Validation(
                encoded.validation,
                texts,
                family=self.family,
                components=self.components,
                train_text=self.train_text,
                seed=plan.run.seed,
            )

    @property
    def train_text(self) -> bool:
        return any(name.startswith("text_encoder") for name in self.parameters)

    def start(self) -> None:
        """Restore the newest snapshot and open the books."""
        raw = optimizer(self.parameters, self.run.plan.optim)
        found = self._restored(raw)
        loss = LossModule(self.family, self.components, self.run.plan.loss, train_text=self.train_text)
        self.model, self.optimizer = self.accelerator.prepare(loss, raw)
        if found and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(found.scaler)
        if self.accelerator.is_main_process:
            self._open_books()

    def close(self) -> None:
        """Close the books that `start` opened."""
        if self.accelerator.is_main_process:
            self.books.close()

    def run_steps(self, stop: StopRequest) -> Trained:
        """Take every step that is left. Work is saved when a stop is asked for, the adapter before it is measured."""
        plan = self.run.plan
        self._write_if_whole()
        while self.step < plan.run.steps and not self._on_plateau:
            self._take_step()
            self._write_if_whole()
            self._write_candidate()
            if self.validation and self._due(plan.validation.every):
                self._validate(self.validation)
            if self._any(bool(stop)) and self.step < plan.run.steps:
                self._snapshot()
                return self._end("stopped", stop.reason)
            if self._due(plan.run.snapshot_every):
                self._snapshot()
            if plan.previews.every and self._due(plan.previews.every) and self.step < plan.run.steps:
                self._preview()
        if self._on_plateau:
            self._snapshot()  # a resume finds the run at its end
        if plan.previews.every:
            self._preview()
        return self.finish(f"no lower validation loss since step {self.best.step}" if self._on_plateau else "")

    @property
    def _on_plateau(self) -> bool:
        plan = self.run.plan
        return 0 < plan.validation.patience <= self.best.worse and self.step < plan.run.steps

    def finish(self, reason: str = "") -> Trained:
        """Write the adapter of the step that the plan keeps, as the result of the run at the step where it is."""
        wants_best = self.run.plan.validation.keep == "best" and self.best.loss is not None
        kept = self.best.step if wants_best else self.step
        if self.accelerator.is_main_process:
            if kept < self.step:
                self._copy_best()
            elif self.step < self.run.plan.run.steps:
                self._write(self.run.adapter)
        return self._end("finished", reason, kept)

    def finish_early(self) -> Trained:
        """Make the newest snapshot the result of the run. Raises SnapshotError where there is none."""
        if not self._restored(optimizer(self.parameters, self.run.plan.optim)):
            raise SnapshotError(
                f"{self.run.folder} has no snapshot to make an adapter of",
                hint=f"continue it with `lora-diffusion train --resume {self.run.folder}` and stop it after a step",
            )
        self._write_if_whole()
        return self.finish(f"finished early at step {self.step}" if self.step < self.run.plan.run.steps else "")

    def _copy_best(self) -> None:
        found = candidate_path(self.run.best, self.best.step)
        if not found.exists():
            raise SnapshotError(
                f"{found}, the best adapter, is missing",
                hint="put it back, or set validation.keep = last in plan.toml and resume",
            )
        with replacing(self.run.adapter) as aside:
            shutil.copyfile(found, aside)

    def _write_if_whole(self) -> None:
        if self.step == self.run.plan.run.steps and self.accelerator.is_main_process:
            self._write(self.run.adapter)

    def _write_candidate(self) -> None:
        if is_candidate(self.run.plan.run, self.step) and self.accelerator.is_main_process:
            self._write(candidate_path(self.run.candidates, self.step))

    def _write(self, path: Path) -> None:
        write_adapter(self._adapter(), path, dialect="kohya", dtype="fp32")

    def _due(self, every: int) -> bool:
        """Say whether something that happens every so many steps (0: never), and after the last one, happens now."""
        return self.step == self.run.plan.run.steps or (every > 0 and self.step % every == 0)

    def _take_step(self) -> None:
        plan = self.run.plan
        began = time.perf_counter()
        rate = set_rate(self.optimizer, rate_factor(plan.schedule, self.step, plan.run.steps))
        style, ordinary = self.data.global_batch(self.step), self.data.regularisation_batch(self.step)
        batches = [style, ordinary] if ordinary else [style]
        losses, norm = self._backward(batches)
        self._refuse_non_finite(losses, norm, batches)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        names = ("loss", "regularisation_loss")
        row = {"step": self.step, **dict(zip(names, losses, strict=False)), "norm": norm, "lr": rate}
        self._tell(row, time.perf_counter() - began, style.files)

    def _backward(self, batches: list[GlobalBatch]) -> tuple[list[float], float]:
        """Add up the gradient of the batches; return the mean loss of each and the norm before it is clipped."""
        plan, accelerator = self.run.plan, self.accelerator
        rank, world = accelerator.process_index, accelerator.num_processes
        pieces = [
            (place, piece)
            for place, batch in enumerate(batches)
            for piece in batch.micro_batches(rank, world, plan.run.micro_batch)
        ]
        totals = torch.zeros(len(batches), device=accelerator.device)
        for number, (place, piece) in enumerate(pieces):
            last = number == len(pieces) - 1
            with nullcontext() if last else accelerator.no_sync(self.model), self._dropout_drawn(number):
                loss = self.model(piece).sum()
                totals[place] += loss.detach()
                # DDP averages over the processes: times their number, the sum over all is what remains
                accelerator.backward(loss * (world * batches[place].gain) / batches[place].size)
        norm = accelerator.clip_grad_norm_(self.parameters.values(), plan.optim.max_norm)
        sizes = torch.tensor([batch.size for batch in batches], device=accelerator.device)
        *losses, norm = torch.cat([self._sum(totals) / sizes, norm.to(totals).view(1)]).tolist()
        return losses, norm

    def _dropout_drawn(self, piece: int) -> AbstractContextManager[None]:
        """Draw dropout, which takes torch's global generator, as a function of the step, process and piece too."""
        plan, accelerator = self.run.plan, self.accelerator
        if not plan.adapter.dropout:
            return nullcontext()
        return seeded(plan.run.seed, self.step, accelerator.process_index, piece, "dropout")

    def _refuse_non_finite(self, losses: list[float], norm: float, batches: list[GlobalBatch]) -> None:
        scaled = self.accelerator.scaler is not None  # fp16 gradients overflow now and then; the scaler skips the step
        values = losses if scaled else [*losses, norm]
        if all(abs(value) < float("inf") for value in values):
            return
        good = snapshot.newest(self.run.snapshots)
        where = f"the last good snapshot is {good.path}" if good else "there is no snapshot yet"
        names = [", ".join(batch.files) for batch in batches]
        beside = f", with {names[1]} of {self.run.plan.data.regularisation}" if len(names) > 1 else ""
        loss = " and ".join(map(str, losses))
        raise NonFiniteLoss(
            f"step {self.step + 1}: loss {loss}, gradient norm {norm}; the pictures were {names[0]}{beside}",
            hint=f"{where}; lower optim.lr or set run.precision=no, and train into another run.out",
        )

    def _tell(self, row: dict[str, Any], seconds: float, pictures: tuple[str, ...]) -> None:
        self.seconds.append(seconds)
        if not self.accelerator.is_main_process:
            return
        self.books.step({**row, "seconds": round(seconds, 4)})
        self.on_event(
            Stepped(
                step=self.step,
                steps=self.run.plan.run.steps,
                loss=row["loss"],
                norm=row["norm"],
                lr=row["lr"],
                seconds=seconds,
                pictures=pictures,
            )
        )

    def _validate(self, validation: Validation) -> None:
        """Measure before a snapshot is taken: a row that a kill keeps out of the books is then measured again."""
        accelerator = self.accelerator
        total = validation.total(accelerator.process_index, accelerator.num_processes).to(accelerator.device)
        loss = self._sum(total).item() / validation.size
        self.best = self.best.after(self.step, loss)
        if accelerator.is_main_process:
            if self.best.step == self.step and self.run.plan.validation.keep == "best":
                self._write(candidate_path(self.run.best, self.step))
            self.books.validation(self.step, loss)
            self.on_event(Validated(step=self.step, loss=loss))

    def _snapshot(self) -> None:
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            path = snapshot.take(
                self.run.snapshots,
                step=self.step,
                identity=self.identity,
                parameters=self.parameters,
                optimizer=getattr(self.optimizer, "optimizer", self.optimizer),
                scaler=scaler.state_dict() if scaler is not None else {},
                best=self.best,
            )
            snapshot.prune(self.run.snapshots, self.run.plan.run.keep_snapshots)
            prune_best(self.run.best, snapshot.steps(self.run.snapshots))
            self.run.set_status("running", self.step)
            self.on_event(Snapshotted(step=self.step, path=path))
        self.accelerator.wait_for_everyone()

    def _restored(self, raw: torch.optim.Optimizer) -> snapshot.Snapshot | None:
        """Put the newest snapshot back, if there is one, and return it."""
        self.identity = f"{self.run.plan.fingerprint} {self.sources.fingerprint}"
        found = snapshot.newest(self.run.snapshots)
        if found:
            self._restore(found, raw)
        return found

    def _restore(self, found: snapshot.Snapshot, raw: torch.optim.Optimizer) -> None:
        if found.identity != self.identity:
            same_plan = found.identity.partition(" ")[0] == self.identity.partition(" ")[0]
            changed = (
                f"the pictures or captions in {self.run.plan.data.folder}" if same_plan else "settings in plan.toml"
            )
            raise SnapshotError(
                f"{changed} changed since {found.path} was taken",
                hint="put them back as they were, or start a new run in another run.out",
            )
        snapshot.restore(found, parameters=self.parameters, optimizer=raw)
        self.step, self.best = found.step, found.best

    def _preview(self) -> None:
        if self.accelerator.is_main_process:
            paths = draw_previews(
                self.run.plan, self.family, self.components, self.data.captions, self.run.previews, self.step
            )
            self.on_event(Previewed(step=self.step, paths=paths))
        self.accelerator.wait_for_everyone()

    def _end(self, status: Status, reason: str = "", kept: int = 0) -> Trained:
        if self.accelerator.is_main_process:
            self.run.set_status(status, self.step, reason=reason, kept=kept)
        self.accelerator.wait_for_everyone()
        return Trained(
            run=self.run.folder,
            adapter=self.run.adapter if status == "finished" else None,
            status=status,
            steps=self.step,
            seconds_per_step=round(statistics.median(self.seconds), 4) if self.seconds else 0.0,
            kept=kept,
            reason=reason,
        )

    def _adapter(self) -> Adapter:
        return Adapter(
            name=self.run.plan.adapter.name,
            family=self.family.name,
            modules=trained_weights(self.family.slots(self.components), NAME),
            metadata=metadata_of(self.run.plan, self.sources, self.components, steps=self.step),
        )

    def _open_books(self) -> None:
        plan, manifest = self.run.plan, self.sources.style.manifest
        self.books = Books(self.run, self.step)
        for folder in (self.run.best, self.run.candidates):
            forget_after(folder, self.step)
        manifest.write(self.run.folder / "manifest.jsonl")
        self.run.set_status("running", self.step)
        parameters = sum(parameter.numel() for parameter in self.parameters.values())
        self.on_event(
            Started(
                step=self.step,
                steps=plan.run.steps,
                images=len(manifest.records),
                targets=len({name.rpartition(".")[0] for name in self.parameters}),
                parameters=parameters,
            )
        )

    def _sum(self, value: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return value
        summed: Tensor = self.accelerator.reduce(value, "sum")
        return summed

    def _any(self, here: bool) -> bool:
        """Say whether any process says so; all of them have to stop after the same step."""
        if self.accelerator.num_processes == 1:
            return here
        return bool(self._sum(torch.tensor(float(here), device=self.accelerator.device)).item())
