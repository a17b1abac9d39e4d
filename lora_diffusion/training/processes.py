"""accelerate, set up for one run: device, precision and how the processes of a run share gradients."""

from typing import Any

from lora_diffusion.training.plan import RunPlan

__all__ = ["accelerator_for", "release"]


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
