"""The training loop: one iteration is one optimiser step over one global batch, whatever the number of processes."""

import hashlib
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets_tools.bucket import BucketRule
from datasets_tools.errors import DatasetError
from datasets_tools.manifest import Manifest
from lora_diffusion.adapters.inject import inject, trained_weights
from lora_diffusion.devices import DTYPES, choose_device, choose_precision, keep_freed_memory
from lora_diffusion.embedded import picture_folder
from lora_diffusion.errors import NonFiniteLoss, SnapshotError
from lora_diffusion.families import detect, locate
from lora_diffusion.families.attention import use_attention
from lora_diffusion.families.base import Components, Family
from lora_diffusion.families.packing import can_pack, pack
from lora_diffusion.files.adapter import Adapter, write_adapter
from lora_diffusion.seeds import seeded
from lora_diffusion.training import snapshot
from lora_diffusion.training.data import GlobalBatch, TrainingData, bucket_rule, load_manifest
from lora_diffusion.training.events import OnEvent, Previewed, Snapshotted, Started, Stepped, ignore
from lora_diffusion.training.loss import LossModule
from lora_diffusion.training.metadata import metadata_of
from lora_diffusion.training.optim import optimizer, rate_factor, set_rate
from lora_diffusion.training.plan import TrainPlan
from lora_diffusion.training.preview import draw_previews
from lora_diffusion.training.run import Run, Status
from lora_diffusion.training.stopping import StopRequest, stop_on_signals

__all__ = ["Trained", "resume", "train"]

NAME = "trained"
"""What the adapter is called while it is in the model; its own name is for people."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """How a run ended. `adapter` is None where it was stopped; `seconds_per_step` is the median."""

    run: Path
    adapter: Path | None
    status: Status
    steps: int
    seconds_per_step: float


def train(plan: TrainPlan, *, on_event: OnEvent = ignore, stop: StopRequest | None = None) -> Trained:
    """Train an adapter into run.out. Raises before anything is written where the plan cannot work."""
    return _train(Run.create(plan), on_event, stop or StopRequest())


def resume(folder: Path, *, on_event: OnEvent = ignore, stop: StopRequest | None = None) -> Trained:
    """Continue a run from its newest whole snapshot, to the very bytes that it would have given uninterrupted.

    On a CPU with the same number of threads and the same build the adapter is bit-identical. Raises SnapshotError
    when the pictures changed meanwhile.
    """
    return _train(Run.open(folder), on_event, stop or StopRequest())


def _train(run: Run, on_event: OnEvent, stop: StopRequest) -> Trained:
    run.plan = _settled(run.plan)
    accelerator = _accelerator(run.plan)
    try:
        session = _prepare(run, accelerator)
        with ExitStack() as held:
            if accelerator.is_main_process:
                held.enter_context(run.locked())
                run.begin()
            held.enter_context(stop_on_signals(stop))
            with _failure_noted(session):
                session.start(on_event)
                return session.run_steps(stop)
    finally:
        _release(accelerator)


@contextmanager
def _failure_noted(session: "Session") -> Iterator[None]:
    """Write down that a run failed and at which step; the error goes on its way."""
    try:
        yield
    except Exception:
        if session.accelerator.is_main_process:
            with suppress(DatasetError):  # a full disk: the error on its way says so
                session.run.set_status("failed", session.step)
        raise


def _settled(plan: TrainPlan) -> TrainPlan:
    """Return the plan with what `auto` and empty names come to, so that a resume elsewhere does not differ."""
    device = choose_device(plan.run.device)
    name = plan.adapter.name or plan.data.trigger or picture_folder(plan.data.folder).absolute().name
    run = {"device": device.type, "precision": choose_precision(plan.run.precision, device)}
    return plan.model_copy(
        update={
            "adapter": plan.adapter.model_copy(update={"name": name}),
            "run": plan.run.model_copy(update=run),
        }
    )


def _accelerator(plan: TrainPlan) -> Any:
    from accelerate import Accelerator
    from accelerate.utils import AutocastKwargs, DistributedDataParallelKwargs

    # The frozen base is held in the low precision itself and adapters cast their fp32 factors: autocast would only
    # add casts. accelerate still scales fp16 losses.
    handlers = [AutocastKwargs(enabled=False), DistributedDataParallelKwargs(gradient_as_bucket_view=True)]
    return Accelerator(cpu=plan.run.device == "cpu", mixed_precision=plan.run.precision, kwargs_handlers=handlers)


def _release(accelerator: Any) -> None:
    """Let the next run of this process choose another precision: accelerate keeps its state process-wide."""
    from accelerate.state import AcceleratorState

    accelerator.free_memory()
    AcceleratorState._reset_state()


def _prepare(run: Run, accelerator: Any) -> "Session":
    """Do everything that can fail on a bad plan; nothing is written."""
    plan = run.plan
    path = locate(plan.base.path)
    family = detect(path, plan.base.family)
    manifest = load_manifest(plan.data)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    dtype = DTYPES[plan.run.precision]
    components = family.load(path, dtype=dtype, device=accelerator.device, tokenizer=plan.base.tokenizer)
    use_attention(components.denoiser, components.text_encoders, plan.run.attention)
    if plan.run.pack_weights and can_pack(accelerator.device, dtype):
        pack(components.denoiser)
    rule = bucket_rule(plan.data, resolution=components.resolution, step=components.bucket_step)
    slots = family.slots(components)
    targets = inject(slots, plan.adapter, name=NAME, target_sets=family.targets, seed=plan.run.seed)
    if plan.run.gradient_checkpointing:
        components.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
    return Session(
        run=run,
        accelerator=accelerator,
        family=family,
        components=components,
        manifest=manifest,
        rule=rule,
        parameters=_parameters(slots, targets),
    )


@dataclass(kw_only=True)
class Session:
    """A run in work: what is loaded, and how far it is."""

    run: Run
    accelerator: Any
    family: Family
    components: Components
    manifest: Manifest
    rule: BucketRule
    parameters: Mapping[str, nn.Parameter]
    on_event: OnEvent = ignore
    step: int = 0
    seconds: list[float] = field(default_factory=list)

    def start(self, on_event: OnEvent) -> None:
        """Encode the pictures and restore the newest snapshot."""
        plan, self.on_event = self.run.plan, on_event if self.accelerator.is_main_process else ignore
        train_text = any(name.startswith("text_encoder") for name in self.parameters)
        with self.accelerator.main_process_first():  # the others find the cache filled
            self.data = TrainingData(
                self.manifest,
                data=plan.data,
                loss=plan.loss,
                run=plan.run,
                family=self.family,
                components=self.components,
                cache=self.run.cache,
                rule=self.rule,
                train_text=train_text,
                on_event=self.on_event,
            )
        raw = optimizer(self.parameters, plan.optim)
        self.identity = _identity(plan, self.manifest)
        found = snapshot.newest(self.run.snapshots)
        if found:
            self._restore(found, raw)
        loss = LossModule(self.family, self.components, plan.loss, train_text=train_text)
        self.model, self.optimizer = self.accelerator.prepare(loss, raw)
        if found and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(found.scaler)
        if self.accelerator.is_main_process:
            self._open_books()

    def run_steps(self, stop: StopRequest) -> Trained:
        """Take every step that is left. Work is saved when a stop is asked for."""
        plan = self.run.plan
        while self.step < plan.run.steps:
            self._take_step(self.data.global_batch(self.step))
            if self._any(bool(stop)) and self.step < plan.run.steps:
                self._snapshot()
                return self._end("stopped", stop.reason)
            every, previews = plan.run.snapshot_every, plan.previews.every
            last = self.step == plan.run.steps
            if last or (every and self.step % every == 0):
                self._snapshot()
            if previews and self.step % previews == 0 and not last:
                self._preview()
        if self.accelerator.is_main_process:
            write_adapter(self._adapter(), self.run.adapter, dialect="kohya", dtype="fp32")
        if plan.previews.every:
            self._preview()
        return self._end("finished")

    def _take_step(self, batch: GlobalBatch) -> None:
        plan, accelerator = self.run.plan, self.accelerator
        began = time.perf_counter()
        rate = set_rate(self.optimizer, rate_factor(plan.schedule, self.step, plan.run.steps))
        pieces = batch.micro_batches(accelerator.process_index, accelerator.num_processes, plan.run.micro_batch)
        total = torch.zeros((), device=accelerator.device)
        for number, piece in enumerate(pieces):
            last = piece is pieces[-1]
            with nullcontext() if last else accelerator.no_sync(self.model), self._dropout_drawn(number):
                loss = self.model(piece).sum()
                total += loss.detach()
                # DDP averages over the processes: times their number, the sum over all is what remains
                accelerator.backward(loss * accelerator.num_processes / batch.size)
        norm = accelerator.clip_grad_norm_(self.parameters.values(), plan.optim.max_norm)
        loss_value, norm_value = torch.stack([self._sum(total) / batch.size, norm.to(total)]).tolist()
        self._refuse_non_finite(loss_value, norm_value, batch)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self._tell(loss_value, norm_value, rate, time.perf_counter() - began)

    def _dropout_drawn(self, piece: int) -> AbstractContextManager[None]:
        """Draw dropout, which takes torch's global generator, as a function of the step, process and piece too."""
        plan, accelerator = self.run.plan, self.accelerator
        if not plan.adapter.dropout:
            return nullcontext()
        return seeded(plan.run.seed, self.step, accelerator.process_index, piece, "dropout")

    def _refuse_non_finite(self, loss: float, norm: float, batch: GlobalBatch) -> None:
        scaled = self.accelerator.scaler is not None  # fp16 gradients overflow now and then; the scaler skips the step
        values = [loss] if scaled else [loss, norm]
        if all(abs(value) < float("inf") for value in values):
            return
        good = snapshot.newest(self.run.snapshots)
        where = f"the last good snapshot is {good.path}" if good else "there is no snapshot yet"
        raise NonFiniteLoss(
            f"step {self.step + 1}: loss {loss}, gradient norm {norm}; the pictures were {', '.join(batch.files)}",
            hint=f"{where}; lower optim.lr or set run.precision=no, and train into another run.out",
        )

    def _tell(self, loss: float, norm: float, rate: float, seconds: float) -> None:
        self.seconds.append(seconds)
        if not self.accelerator.is_main_process:
            return
        row = {"step": self.step, "loss": loss, "norm": norm, "lr": rate, "seconds": round(seconds, 4)}
        self.run.log(row)
        if self._board:
            for key in ("loss", "norm", "lr"):
                self._board.add_scalar(f"train/{key}", row[key], self.step)
        steps = self.run.plan.run.steps
        self.on_event(Stepped(step=self.step, steps=steps, loss=loss, norm=norm, lr=rate, seconds=seconds))

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
            )
            snapshot.prune(self.run.snapshots, self.run.plan.run.keep_snapshots)
            self.run.set_status("running", self.step)
            self.on_event(Snapshotted(step=self.step, path=path))
        self.accelerator.wait_for_everyone()

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
        self.step = found.step

    def _preview(self) -> None:
        if self.accelerator.is_main_process:
            paths = draw_previews(
                self.run.plan, self.family, self.components, self.data.captions, self.run.previews, self.step
            )
            self.on_event(Previewed(step=self.step, paths=paths))
        self.accelerator.wait_for_everyone()

    def _end(self, status: Status, reason: str = "") -> Trained:
        if self.accelerator.is_main_process:
            self.run.set_status(status, self.step, reason=reason)
            if self._board:
                self._board.close()
        self.accelerator.wait_for_everyone()
        return Trained(
            run=self.run.folder,
            adapter=self.run.adapter if status == "finished" else None,
            status=status,
            steps=self.step,
            seconds_per_step=round(statistics.median(self.seconds), 4) if self.seconds else 0.0,
        )

    def _adapter(self) -> Adapter:
        plan = self.run.plan
        return Adapter(
            name=plan.adapter.name,
            family=self.family.name,
            modules=trained_weights(self.family.slots(self.components), NAME),
            metadata=metadata_of(plan, self.manifest, self.components),
        )

    def _open_books(self) -> None:
        plan = self.run.plan
        self.run.forget_after(self.step)
        self.manifest.write(self.run.folder / "manifest.jsonl")
        self.run.set_status("running", self.step)
        self._board = _tensorboard(self.run.folder, self.step) if plan.run.tensorboard else None
        parameters = sum(parameter.numel() for parameter in self.parameters.values())
        self.on_event(
            Started(
                step=self.step,
                steps=plan.run.steps,
                images=len(self.manifest.records),
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


def _parameters(slots: Mapping[str, Any], targets: list[str]) -> dict[str, nn.Parameter]:
    return {
        f"{target}.{name}": parameter
        for target in targets
        for name, parameter in slots[target].module.layer(NAME).named_parameters()
    }


def _identity(plan: TrainPlan, manifest: Manifest) -> str:
    """Return what decides the tensors of a run as two hashes: the plan without its places, and the pictures."""
    decides = plan.model_dump_json(
        exclude={"previews": True, "run": {"out", "tensorboard", "keep_snapshots"}, "data": {"cache", "folder"}}
    )
    return f"{hashlib.sha256(decides.encode()).hexdigest()} {manifest.fingerprint}"


def _tensorboard(folder: Path, step: int) -> Any:
    from importlib.util import find_spec

    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
