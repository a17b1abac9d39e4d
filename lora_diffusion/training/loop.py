"""Train, and go on training: everything that can fail on a bad plan happens before anything is written."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from datasets_tools.errors import DatasetError
from datasets_tools.journal import Journal
from lora_diffusion.adapters.inject import inject
from lora_diffusion.devices import DTYPES, keep_freed_memory
from lora_diffusion.families import detect, locate
from lora_diffusion.families.attention import use_attention
from lora_diffusion.families.packing import can_pack, pack
from lora_diffusion.training.asking import journal_path
from lora_diffusion.training.events import OnEvent, Scanned, ignore
from lora_diffusion.training.plan import TrainPlan
from lora_diffusion.training.processes import accelerator_for, release, settled
from lora_diffusion.training.run import Run
from lora_diffusion.training.samples import load_sources
from lora_diffusion.training.session import NAME, Session, Trained
from lora_diffusion.training.stopping import StopRequest, stop_on_signals

__all__ = ["Trained", "finish", "resume", "train"]

Withdrawn = Mapping[str, str]
_NOTHING: Withdrawn = MappingProxyType({})


def train(
    plan: TrainPlan, *, on_event: OnEvent = ignore, stop: StopRequest | None = None, withdrawn: Withdrawn = _NOTHING
) -> Trained:
    """Train an adapter into run.out. Raises before anything is written where the plan cannot work.

    `withdrawn` are reasons by SHA-256: such a picture may not be used, here and when a run is continued or finished.
    """
    return _train(Run.create(plan), on_event, stop, withdrawn)


def resume(
    folder: Path, *, on_event: OnEvent = ignore, stop: StopRequest | None = None, withdrawn: Withdrawn = _NOTHING
) -> Trained:
    """Continue a run from its newest whole snapshot, to the very bytes that it would have given uninterrupted.

    On a CPU with the same number of threads and the same build the adapter is bit-identical. Raises SnapshotError
    when the pictures changed meanwhile.
    """
    return _train(Run.open(folder), on_event, stop, withdrawn)


def finish(folder: Path, *, on_event: OnEvent = ignore, withdrawn: Withdrawn = _NOTHING) -> Trained:
    """Make the newest whole snapshot of a stopped run its adapter, without a further step.

    The adapter says of how many steps it is; with validation.keep = best it is the best up to there. The snapshots
    stay: a `resume` afterwards goes on and ends with the bytes of a run that was never finished early. Raises
    SnapshotError where there is no snapshot, or when the pictures changed meanwhile.
    """
    with _prepared(Run.open(folder), on_event, withdrawn) as session, _owned(session):
        return session.finish_early()


def _train(run: Run, on_event: OnEvent, stop: StopRequest | None, withdrawn: Withdrawn) -> Trained:
    request = StopRequest() if stop is None else stop  # one that does not ask yet is false
    with _prepared(run, on_event, withdrawn) as session:
        session.encode()
        with _owned(session), stop_on_signals(request), _failure_noted(session):
            session.start()
            with closing(session):
                return session.run_steps(request)


@contextmanager
def _prepared(run: Run, on_event: OnEvent, withdrawn: Withdrawn) -> Iterator[Session]:
    """Hold a session whose model is loaded; nothing is written."""
    run.require_writable()
    run.plan = settled(run.plan)
    accelerator = accelerator_for(run.plan.run)
    try:
        yield _prepare(run, accelerator, on_event if accelerator.is_main_process else ignore, withdrawn)
    finally:
        release(accelerator)


@contextmanager
def _owned(session: Session) -> Iterator[None]:
    """Own the run directory, which is made where it is missing."""
    if not session.accelerator.is_main_process:
        yield
        return
    with session.run.locked():
        session.run.begin()
        yield


@contextmanager
def _failure_noted(session: Session) -> Iterator[None]:
    """Write down that a run failed and at which step; the error goes on its way."""
    try:
        yield
    except Exception:
        if session.accelerator.is_main_process:
            with suppress(DatasetError):  # a full disk: the error on its way says so
                session.run.set_status("failed", session.step)
        raise


def _prepare(run: Run, accelerator: Any, on_event: OnEvent, withdrawn: Withdrawn) -> Session:
    """Read and load all that the plan names."""
    plan = run.plan
    path = locate(plan.base.path)
    family = detect(path, plan.base.family)
    resolution, bucket_step = family.geometry(path)
    sources = load_sources(
        plan,
        resolution=resolution,
        step=bucket_step,
        today=date.today(),
        withdrawn=withdrawn,
        journal=Journal(journal_path(plan)),
        on_progress=lambda done, total: on_event(Scanned(done=done, total=total)),
    )
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    dtype = DTYPES[plan.run.precision]
    components = family.load(path, dtype=dtype, device=accelerator.device, tokenizer=plan.base.tokenizer)
    use_attention(components.denoiser, components.text_encoders, plan.run.attention)
    if plan.run.pack_weights and can_pack(accelerator.device, dtype):
        pack(components.denoiser)
    slots = family.slots(components)
    targets = inject(slots, plan.adapter, name=NAME, target_sets=family.targets, seed=plan.run.seed)
    if plan.run.gradient_checkpointing:
        components.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
    return Session(
        run=run,
        accelerator=accelerator,
        family=family,
        components=components,
        sources=sources,
        parameters=_parameters(slots, targets),
        on_event=on_event,
    )


def _parameters(slots: Mapping[str, Any], targets: list[str]) -> dict[str, nn.Parameter]:
    return {
        f"{target}.{name}": parameter
        for target in targets
        for name, parameter in slots[target].module.layer(NAME).named_parameters()
    }
