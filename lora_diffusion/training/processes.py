"""Where a run runs: its device and precision, and how its processes share gradients (accelerate)."""

from typing import Any

from lora_diffusion.devices import choose_device, choose_precision
from lora_diffusion.embedded import picture_folder
from lora_diffusion.training.plan import RunPlan, TrainPlan

__all__ = ["accelerator_for", "release", "settled"]


def settled(plan: TrainPlan) -> TrainPlan:
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


def accelerator_for(plan: RunPlan) -> Any:
    """Return the accelerator of a run whose device and precision are settled."""
    from accelerate import Accelerator
    from accelerate.utils import AutocastKwargs, DistributedDataParallelKwargs

    # The frozen base is held in the low precision itself and adapters cast their fp32 factors: autocast would only
    # add casts. accelerate still scales fp16 losses.
    handlers = [AutocastKwargs(enabled=False), DistributedDataParallelKwargs(gradient_as_bucket_view=True)]
    return Accelerator(cpu=plan.device == "cpu", mixed_precision=plan.precision, kwargs_handlers=handlers)


def release(accelerator: Any) -> None:
    """Let the next run of this process choose another precision: accelerate keeps its state process-wide."""
    from accelerate.state import AcceleratorState

    accelerator.free_memory()
    AcceleratorState._reset_state()
