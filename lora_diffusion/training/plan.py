"""Everything that decides a run. Equal plan and equal pictures give equal tensors."""

import hashlib
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from lora_diffusion.adapters.spec import AdapterSpec
from lora_diffusion.settings import Section

__all__ = [
    "AdapterPlan",
    "BasePlan",
    "DataPlan",
    "LossPlan",
    "OptimPlan",
    "PreviewsPlan",
    "RunPlan",
    "SchedulePlan",
    "TrainPlan",
    "ValidationPlan",
]


class BasePlan(Section):
    path: str = Field(description="Base model: a diffusers folder, a .safetensors file, a hub id, or demo.")
    family: str = Field(default="auto", description="Kind of base model; auto looks at the files.")
    tokenizer: str = Field(
        default="", description="Tokenizer folder, needed only for a single file that has none beside it."
    )


class AdapterPlan(AdapterSpec):
    name: str = Field(
        default="", description="Name inside the adapter file; empty takes the trigger, else the pictures' folder name."
    )
    method: str = Field(
        default="lora", description="Adapter method; re-tests find the variants of LoRA within 1-2 % of it."
    )
    rank: int = Field(default=16, ge=1, description="Capacity; 16 to 32 is what style recipes of the field agree on.")
    alpha: float | None = Field(
        default=None, gt=0, description="Scale is alpha / rank; left out it equals rank, so the scale is 1."
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of inputs dropped before each adapter; 0 trains fastest."
    )
    targets: tuple[str, ...] = Field(
        default=("attention",),
        min_length=1,
        description="Target sets or patterns; attention alone carries a style and blends best.",
    )
    ranks: dict[str, PositiveInt] = Field(
        default_factory=dict, description="Rank of its own for a target set or pattern."
    )


class DataPlan(Section):
    folder: str = Field(description="Folder of pictures, with captions beside them or in metadata.jsonl.")
    trigger: str = Field(default="", description="Word put before every caption; the prompt that calls the style up.")
    captions: Literal["require", "optional"] = Field(
        default="require",
        description="require stops when no picture has a caption; optional trains on the trigger alone.",
    )
    caption_dropout: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of captions left empty, so that guidance keeps working; 0.05-0.1 in the field.",
    )
    shuffle_tags: bool = Field(
        default=False,
        description="Comma-separated tags in another order at each look, so that none counts for its place alone.",
    )
    keep_tags: int = Field(
        default=0, ge=0, description="So many first tags stay where they are; the trigger always does."
    )
    tag_dropout: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of tags left out at each look, so that the look does not hang on one; 0.1 is usual.",
    )
    max_tokens: int = Field(
        default=225,
        ge=75,
        le=600,
        multiple_of=75,
        description="Tokens of a caption that are read, 75 at a time as in drawing; 75 cuts as CLIP alone does.",
    )
    rights: Literal["optional", "require"] = Field(
        default="optional",
        description="require refuses a picture without owner, licence or consent, or whose rights expired.",
    )
    resolution: int = Field(
        default=0,
        ge=0,
        description="Side of the square with the area of a bucket, in pixels; 0 takes the base model's.",
    )
    more_resolutions: tuple[PositiveInt, ...] = Field(
        default=(), description="Train every picture at these resolutions as well, for a style that holds at each."
    )
    bucket_step: int = Field(
        default=0, ge=0, description="Grid of bucket sides in pixels; 0 takes the smallest that the base model allows."
    )
    min_side: int = Field(
        default=0, ge=0, description="Shortest side of a bucket in pixels; 0 is a third of the resolution."
    )
    max_side: int = Field(
        default=0, ge=0, description="Longest side of a bucket in pixels; 0 is thrice the resolution."
    )
    crop_budget: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Largest share of a picture that a crop may cut; left out it is what the grid of sizes allows.",
    )
    upscale: bool = Field(
        default=True,
        description="Enlarge pictures below the resolution; off trains them smaller, without the blur.",
    )
    repeats: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="Folder or pattern below data.folder -> looks at its pictures per epoch; the last match wins, "
        "also over the number of a folder named 10_name.",
    )
    flip: bool = Field(
        default=False, description="Mirror every second look; not for lettering, nor a light that comes from one side."
    )
    colour_jitter: float = Field(
        default=0.0,
        ge=0,
        le=0.2,
        description="Largest change of brightness, contrast and saturation; more than 0.2 is another palette.",
    )
    masks: str = Field(
        default="",
        description="What of a picture counts: alpha, its transparency, or grey pictures of a folder; empty is all.",
    )
    mask_floor: float = Field(
        default=0.0, ge=0, lt=1, description="Weight where a mask is black; above 0 keeps some of the surroundings."
    )
    regularisation: str = Field(
        default="",
        description="Folder of ordinary pictures that keep prompts without the trigger as they were; empty is none.",
    )
    regularisation_weight: float = Field(
        default=1.0, gt=0, description="Weight of their loss beside that of the style pictures."
    )
    regularisation_target: Literal["base", "picture"] = Field(
        default="base",
        description="base holds the base model's own answer, so any pictures do; picture learns the pictures.",
    )
    background: str = Field(
        default="#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", description="Colour behind transparent pixels."
    )
    cache: str = Field(
        default="", description="Folder of encoded pictures, shared by runs; empty is .cache beside the run's folder."
    )

    @field_validator("more_resolutions", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, int) else value  # data.more_resolutions=768 needs no brackets


class OptimPlan(Section):
    name: Literal["adamw"] = Field(
        default="adamw", description="AdamW (Loshchilov and Hutter 2019), fused where torch has it."
    )
    lr: float = Field(
        default=1e-4, gt=0, description="Learning rate; 1e-4 is the field's for rank 16 with alpha = rank."
    )
    text_lr: float | None = Field(
        default=None, gt=0, description="Learning rate of text-encoder adapters; left out it equals lr."
    )
    betas: tuple[float, float] = Field(
        default=(0.9, 0.99), description="0.99 follows short runs faster than torch's 0.999."
    )
    eps: float = Field(
        default=1e-6,
        gt=0,
        description="At torch's 1e-8 rounding decides the smallest updates: 2 processes drift from 1 by 17 times more.",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="torch's default; pulls both factors gently to zero.")
    max_norm: float = Field(
        default=1.0, gt=0, description="Gradients are clipped to this norm: one odd batch cannot wreck the run."
    )


class SchedulePlan(Section):
    kind: Literal["constant", "cosine"] = Field(
        default="cosine", description="cosine ends near zero, so the last steps settle."
    )
    warmup: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Share of the steps over which the rate rises; Adam's first steps are wild.",
    )
    floor: float = Field(
        default=0.02, ge=0, le=1, description="Share of the rate at the end of a cosine; never quite zero."
    )


class LossPlan(Section):
    min_snr_gamma: float | None = Field(
        default=None,
        gt=0,
        description="Min-SNR weighting (5 is usual). Off: it turns down the noisy steps in which a style forms.",
    )
    noise_offset: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Noise added to a whole channel, for dark or bright grounds on epsilon bases; 0.05 is usual.",
    )


class PreviewsPlan(Section):
    every: int = Field(
        default=0, ge=0, description="Draw previews after so many steps; 0 draws none, which is fastest."
    )
    prompts: tuple[str, ...] = Field(default=(), description="What to draw; empty takes two captions of the data.")
    steps: int = Field(default=20, ge=1, le=200, description="Denoising steps of a preview.")
    guidance: float | None = Field(
        default=None,
        ge=0,
        le=50,
        description="Classifier-free guidance of a preview; left out it is what suits the base model.",
    )
    seed: int = Field(
        default=0, ge=0, description="The same noise at every preview, so that only the training differs."
    )


class ValidationPlan(Section):
    folder: str = Field(
        default="", description="Captioned pictures of the same style that are not trained on; empty is none."
    )
    every: int = Field(
        default=0,
        ge=0,
        description="Steps between validation losses; 0 computes one at the end. It rises where training only copies.",
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="Adapter of the last step, or of the one with the lowest validation loss, for runs that are long "
        "enough to copy.",
    )
    patience: int = Field(
        default=0,
        ge=0,
        description="Validation losses in a row without a new lowest that end the run; 0 takes every step.",
    )


class RunPlan(Section):
    out: str = Field(
        default="runs/style", min_length=1, description="Run directory; ends up holding adapter.safetensors."
    )
    steps: int = Field(default=1000, ge=1, description="Optimiser steps.")
    seed: int = Field(default=0, ge=0, description="Decides initial weights, order, noise and timesteps.")
    batch_size: int = Field(default=1, ge=1, description="Pictures that one step sees, over all processes.")
    micro_batch: int = Field(
        default=0, ge=0, description="Pictures run at once by one process; 0 runs its whole share, less saves memory."
    )
    precision: Literal["auto", "bf16", "fp16", "no"] = Field(
        default="auto",
        description="Dtype of the frozen base; adapters stay fp32. auto takes bf16 where the hardware multiplies it.",
    )
    attention: Literal["auto", "sdpa", "xformers", "matmul"] = Field(
        default="auto", description="auto takes what is fastest for the device and the sequence length."
    )
    pack_weights: bool = Field(
        default=True,
        description="Keep frozen convolutions as a bf16 CPU multiplies them: 15-20 % faster, 2 GB more for SD 1.5.",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute activations: 20-24 % slower on a CPU, less memory."
    )
    snapshot_every: int = Field(
        default=100, ge=0, description="Steps between snapshots for resume; 0 takes one only when stopped."
    )
    keep_snapshots: int = Field(
        default=2, ge=2, description="At least two: the older one is there if the newest is damaged."
    )
    candidates: int = Field(
        default=3,
        ge=0,
        le=50,
        description="Adapters kept on the way, evenly apart, for `evaluate RUN` to choose from beside the result.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto takes the GPU if there is one.")
    tensorboard: bool = Field(
        default=True, description="Also write TensorBoard events, where TensorBoard is installed."
    )


class TrainPlan(Section):
    base: BasePlan
    adapter: AdapterPlan = AdapterPlan()
    data: DataPlan
    optim: OptimPlan = OptimPlan()
    schedule: SchedulePlan = SchedulePlan()
    loss: LossPlan = LossPlan()
    previews: PreviewsPlan = PreviewsPlan()
    validation: ValidationPlan = ValidationPlan()
    run: RunPlan = RunPlan()

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> "TrainPlan":
        if self.run.micro_batch > self.run.batch_size:
            raise ValueError("run.micro_batch exceeds run.batch_size; lower it or leave it 0")
        return self

    @model_validator(mode="after")
    def _there_is_a_best(self) -> "TrainPlan":
        asks = {"keep=best": self.validation.keep == "best", "patience": self.validation.patience > 0}
        asked = next((setting for setting, is_set in asks.items() if is_set), "")
        if asked and not (self.validation.folder and self.validation.every):
            raise ValueError(f"validation.{asked} compares steps; set validation.folder and validation.every")
        return self

    @property
    def fingerprint(self) -> str:
        """Return a sha256 over the settings that decide the tensors of a run; places and books do not.

        What lies in the folders decides as well: see `Sources.fingerprint`. Defaults are left out, so that a run goes
        on under a later version that has more settings.
        """
        decides = self.model_dump_json(
            exclude_defaults=True,
            exclude={
                "previews": True,
                "validation": True,
                "run": {"out", "tensorboard", "keep_snapshots", "candidates"},
                "data": {"cache", "folder", "masks", "regularisation", "rights"},
            },
        )
        return hashlib.sha256(decides.encode()).hexdigest()
