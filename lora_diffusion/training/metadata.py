"""What a run writes into its adapter about itself."""

from pathlib import Path

from lora_diffusion.families.base import Components
from lora_diffusion.training.plan import TrainPlan
from lora_diffusion.training.samples import Sources

__all__ = ["metadata_of"]


def metadata_of(plan: TrainPlan, sources: Sources, components: Components, *, steps: int) -> dict[str, str]:
    """Return what a reader of the adapter after so many steps wants to know.

    No time of day: equal runs give equal bytes.
    """
    manifest, ordinary = sources.style.manifest, sources.regularisation
    side = plan.data.resolution or components.resolution
    said = {
        "modelspec.prediction_type": "v" if components.objective.name == "v_prediction" else "epsilon",
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.trigger_phrase": plan.data.trigger,
        "ss_steps": str(steps),
        "ss_total_batch_size": str(plan.run.batch_size),
        "ss_learning_rate": str(plan.optim.lr),
        "ss_lr_scheduler": plan.schedule.kind,
        "ss_optimizer": plan.optim.name,
        "ss_seed": str(plan.run.seed),
        "ss_num_train_images": str(len(manifest.records)),
        "ss_num_reg_images": str(len(ordinary.manifest.records)) if ordinary else "",
        "lora_diffusion.base": Path(plan.base.path).name,
        "lora_diffusion.manifest": manifest.fingerprint,
    }
    return {key: value for key, value in said.items() if value}
