"""What training makes of a plan before its first step."""

from pathlib import Path
from typing import NamedTuple

from datasets_tools.cache import TensorCache
from lora_diffusion.training.data import TrainingData
from lora_diffusion.training.encode import EncodedSources, Encoder, Texts, encode_sources
from lora_diffusion.training.events import ignore
from lora_diffusion.training.plan import TrainPlan
from lora_diffusion.training.samples import load_sources


class Made(NamedTuple):
    data: TrainingData
    encoded: EncodedSources
    texts: Texts


def made(plan: TrainPlan, loaded, *, train_text=False) -> Made:
    """Scan and encode what the plan names, as `train` does."""
    family, components = loaded
    sources = load_sources(plan, resolution=components.resolution, step=components.bucket_step)
    encoder = Encoder(family, components, TensorCache(Path(plan.run.out).parent / "cache"), plan=plan)
    texts = Texts(encoder, train_text=train_text)
    encoded = encode_sources(sources, encoder, texts, plan, ignore)
    return Made(TrainingData(encoded, texts, plan=plan, timesteps=components.objective.timesteps), encoded, texts)
