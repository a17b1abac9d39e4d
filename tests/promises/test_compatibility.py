"""What other programs do with every kind of file that we write: the table of the README is made here, by trying.

diffusers and PEFT load the files of every family at toy size; their deltas are compared per module, and the latents
after one step of their sampler with ours. The names are those of the real architectures, held against the rules by
which sd-scripts, A1111 and ComfyUI look for modules (readers.py), which share nothing with our own tables.
"""

import copy
import re
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import nn

from lora_diffusion.adapters.inject import injected
from lora_diffusion.adapters.spec import Weights
from lora_diffusion.families import families
from lora_diffusion.families.names import canonical, component_of
from lora_diffusion.files.adapter import Adapter, write_adapter
from lora_diffusion.files.dense import delta
from lora_diffusion.files.safe import open_safe
from lora_diffusion.merging import merge
from tests import tiny
from tests.families import real
from tests.promises import readers

README = Path(__file__).parents[2] / "README.md"
MARKERS = "<!-- compatibility -->", "<!-- /compatibility -->"
FAMILIES = sorted(families())
DIALECTS = ("kohya", "diffusers", "peft")
SAME = "yes, same output"
COLUMNS = ("file", "of", "diffusers", "PEFT", "names of sd-scripts", "names of A1111", "names of ComfyUI")

# What an adapter reaches -> which modules those are; the last one is decomposed.
_INSIDE = r"denoiser\..*\.attentions\..*"
_KERNELS = r"denoiser\..*\.(resnets|downsamplers|upsamplers)\..*"
_TEXT = r"text_encoder.*\.layers\..*"
REACHES = {
    "LoRA": _INSIDE,
    "LoRA with convolutions": f"{_INSIDE}|{_KERNELS}",
    "LoRA with text encoders": f"{_INSIDE}|{_TEXT}",
    "DoRA": f"{_INSIDE}|{_KERNELS}|{_TEXT}",
}
MERGED = {"merged file": "merged.safetensors", "merged folder": "merged"}


class Family:
    """One family at toy size: its base model as we load it and as diffusers does."""

    def __init__(self, name, folder):
        import diffusers

        self.name, self.folder = name, tiny.FAMILIES[name](folder / "base")
        self.family = families()[name]
        self.kind = getattr(diffusers, self.family.pipeline_class)
        self.components = self.family.load(self.folder, dtype=torch.float32, device=torch.device("cpu"))
        self.slots = self.family.slots(self.components)
        self.weights = {target: slot.base.weight.detach().double() for target, slot in self.slots.items()}
        self.theirs = self.kind.from_pretrained(self.folder)
        self.steps: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def adapter(self, reaches):
        """Up to 16 modules of each component, every one with its own rank and alpha."""
        chosen = [target for target in self.slots if re.fullmatch(REACHES[reaches], target)]
        draw = torch.Generator().manual_seed(len(chosen))
        order = [chosen[at] for at in torch.randperm(len(chosen), generator=draw)]
        # diffusers 0.42.1 tells the style of a text encoder's keys by its out_proj
        order.sort(key=lambda target: not target.endswith("out_proj"))
        modules = {}
        for component in dict.fromkeys(map(component_of, order)):
            for target in [each for each in order if component_of(each) == component][:16]:
                modules[target] = _weights(self.weights[target].shape, reaches, len(modules), draw)
        return Adapter(name="a", family=self.name, modules=modules)

    def deltas(self, adapter, *, decomposed=True):
        found = {}
        for target, weights in adapter.modules.items():
            if not decomposed:
                weights = Weights(down=weights.down, up=weights.up, alpha=weights.alpha)
            found[target] = delta(weights, self.weights[target]).double()
        return found

    def same_step(self, adapter, theirs):
        """Whether latents are ours, to a thousandth of what the adapter changes in them."""
        if adapter.fingerprint not in self.steps:
            without = _step(self.family.pipeline(self.components))
            with injected(self.slots, adapter.modules, name="a"):
                self.steps[adapter.fingerprint] = without, _step(self.family.pipeline(self.components))
        without, ours = self.steps[adapter.fingerprint]
        return float((theirs - ours).norm()) <= 1e-3 * float((ours - without).norm())


def _weights(shape, reaches, number, draw):
    rank, alpha = (1, 2, 4)[number % 3], (4.0, 1.0, 3.0, 0.3)[number % 4]
    ones = [1] * (len(shape) - 2)
    extra = {"dora_scale": torch.rand(shape[0], 1, *ones, generator=draw) + 0.5} if reaches == "DoRA" else {}
    down = torch.randn(rank, *shape[1:], generator=draw)
    up = torch.randn(shape[0], rank, *ones, generator=draw)
    return Weights(down=down, up=up, alpha=alpha, extra=extra)


def _step(pipeline):
    """The latents after one step of a pipeline."""
    pipeline.set_progress_bar_config(disable=True)
    start = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    sizes = {"height": tiny.RESOLUTION, "width": tiny.RESOLUTION}
    return pipeline("a star", num_inference_steps=1, guidance_scale=1.0, latents=start, output_type="latent", **sizes)[
        0
    ]


def _close(one, other, within):
    return float((one - other).norm()) <= within * float(other.norm())


def _judged(family, adapter, found, step):
    """Say what a reader made of an adapter: what it adds to which module, and the latents after a step."""
    if not found:
        return "loads nothing"
    meant, plain = family.deltas(adapter), family.deltas(adapter, decomposed=False)
    if found.keys() != meant.keys():
        return f"loads {len(found.keys() & meant.keys())} of {len(meant)} modules"
    if all(_close(found[target], meant[target], 1e-6) for target in meant):
        return SAME if family.same_step(adapter, step) else "same deltas, another output"
    if all(_close(found[target], plain[target], 1e-6) for target in plain):
        return "drops the DoRA scales"
    return f"{sum(not _close(found[target], meant[target], 1e-6) for target in meant)} of {len(meant)} deltas differ"


# diffusers and PEFT


def _attempt(read: Callable[[Family, Adapter, Path], str], family: Family, adapter: Adapter, path: Path) -> str:
    """Return what a reader does, its refusal too; what it warns of shows in the outcome."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read(family, adapter, path)
        except (ValueError, KeyError, RuntimeError, OSError) as refusal:
            return f"refuses: {_reason(refusal)}"


def _reason(refusal):
    known = re.search(r"adapter_config\.json", str(refusal))
    return f"no `{known[0]}`" if known else type(refusal).__name__


def _of_layers(modules: Mapping[str, nn.Module]):
    """What each layer of PEFT adds to its weight, in float64."""
    from peft.tuners.lora import LoraLayer

    found = {}
    for component, module in modules.items():
        for path, layer in module.named_modules():
            if isinstance(layer, LoraLayer):
                twin = copy.deepcopy(layer).double()
                before = twin.get_base_layer().weight.detach().clone()
                twin.merge()
                found[canonical(component, path)] = twin.get_base_layer().weight.detach() - before
    return found


def _carriers(pipeline):
    """Component -> module of a pipeline that an adapter can reach."""
    named = {"denoiser": "unet", "text_encoder": "text_encoder", "text_encoder_2": "text_encoder_2"}
    return {component: getattr(pipeline, each) for component, each in named.items() if hasattr(pipeline, each)}


def _by_diffusers(family, adapter, path):
    options = {} if path.is_file() else {"weight_name": next(path.rglob("*.safetensors")).relative_to(path).as_posix()}
    try:
        family.theirs.load_lora_weights(str(path), **options)
        return _judged(family, adapter, _of_layers(_carriers(family.theirs)), _step(family.theirs))
    finally:
        family.theirs.unload_lora_weights()


def _by_peft(family, adapter, path):
    """PEFT reads a folder for each component; with `key_mapping` where text encoders have lost a level."""
    plain = _with_peft(family, adapter, path, mapping=None)
    mapped = plain if plain == SAME else _with_peft(family, adapter, path, mapping={"text_model.": ""})
    return plain if mapped != SAME or plain == SAME else f"{SAME}, with `key_mapping`"


def _with_peft(family, adapter, path, mapping):
    from peft import PeftModel

    components = sorted(adapter.components)
    folders = {"denoiser": "unet"} if len(components) > 1 else {"denoiser": ""}
    loaded = []
    try:
        for component in components:
            module = _carriers(family.theirs)[component]
            flat = component != "denoiser" and not hasattr(module, "text_model")
            place = path / folders.get(component, component) if path.is_dir() else path.parent
            loaded.append(PeftModel.from_pretrained(module, place, key_mapping=mapping if flat else None))
        return _judged(family, adapter, _of_layers(_carriers(family.theirs)), _step(family.theirs))
    finally:
        for each in loaded:
            each.unload()


def _merged(family, adapter, path):
    """Whether diffusers loads a merged checkpoint as base + deltas, in every weight and in its output."""
    if path.is_file():
        read = family.kind.from_single_file(str(path), config=str(family.folder), local_files_only=True)
    else:
        read = family.kind.from_pretrained(path)
    meant = family.deltas(adapter)
    for component, module in _carriers(read).items():
        for name, layer in module.named_modules():
            target = canonical(component, name)
            if target in family.weights:
                expected = family.weights[target] + meant.get(target, 0.0)
                if not _close(layer.weight.detach().double(), expected, 1e-6):
                    return f"another weight of {target}"
    return SAME if family.same_step(adapter, _step(read)) else "same weights, another output"


# The table


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """(what, how far it reaches, family) -> what each reader does with it."""
    found = {}
    for name in FAMILIES:
        folder = tmp_path_factory.mktemp(name)
        family = Family(name, folder)
        found |= _of_adapters(family, folder) | _of_merged(family, folder)
    return found


def _of_adapters(family, folder):
    found = {}
    for dialect in DIALECTS:
        for reaches in REACHES:
            adapter, path = family.adapter(reaches), _path(folder / dialect / reaches, dialect)
            write_adapter(adapter, path, dialect=dialect, dtype="fp32")
            loaders = [_attempt(by, family, adapter, path) for by in (_by_diffusers, _by_peft)]
            keys = _names(family.name, reaches, dialect, folder / "names" / dialect / reaches)
            found[f"{dialect} adapter", reaches, family.name] = (
                *loaders,
                *(reads(keys, family.name) for reads in readers.BY_NAMES),
            )
    return found


def _path(folder, dialect):
    folder.mkdir(parents=True, exist_ok=True)
    return folder / ("adapter" if dialect == "peft" else "adapter.safetensors")


def _names(family, reaches, dialect, folder):
    """The keys of an adapter for every module of the real architecture."""
    extra = {"dora_scale": torch.ones(1, 1)} if reaches == "DoRA" else {}
    one = Weights(down=torch.ones(1, 1), up=torch.ones(1, 1), alpha=1.0, extra=extra)
    modules = {
        target: one
        for component, module in real.modules(family).items()
        for path, each in module.named_modules()
        if isinstance(each, nn.Linear | nn.Conv2d)
        and re.fullmatch(REACHES[reaches], target := canonical(component, path))
    }
    path = _path(folder, dialect)
    write_adapter(Adapter(name="names", family=family, modules=modules), path, dialect=dialect)
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    return [key for file in files for key in open_safe(file).entries]


def _of_merged(family, folder):
    found = {}
    for what, name in MERGED.items():
        for reaches in ("LoRA with text encoders", "DoRA"):
            adapter, path = family.adapter(reaches), folder / reaches / name
            path.parent.mkdir(exist_ok=True)
            merge(family.folder, [(adapter, 1.0)], path)
            read = _attempt(_merged, family, adapter, path)
            named = readers.checkpoint(real.original(family.name), family.name) if path.is_file() else "-"
            found[what, reaches, family.name] = (read, "-", named, named, named)
    return found


def _table(outcomes):
    """One row for all that comes out the same."""
    rows: dict[tuple[str, tuple[str, ...]], dict[str, list[str]]] = {}
    for (what, reaches, family), cells in outcomes.items():
        rows.setdefault((what, cells), {}).setdefault(reaches, []).append(family)
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for what in dict.fromkeys(what for what, _ in rows):
        for cells, by_reach in [(cells, found) for (other, cells), found in rows.items() if other == what]:
            whose: dict[str, list[str]] = {}
            for reaches, names in by_reach.items():
                whose.setdefault(", ".join(names), []).append(reaches)
            everywhere = ", ".join(FAMILIES)
            of = "; ".join(
                ", ".join(reaches) + ("" if names == everywhere else f" ({names})") for names, reaches in whose.items()
            )
            lines.append(f"| {what} | {of} | {' | '.join(cells)} |")
    return "\n".join(lines)


@pytest.mark.slow
def test_the_table_of_the_readme_is_what_the_readers_do(outcomes):
    table = _table(outcomes)
    section = README.read_text("utf-8").partition(MARKERS[0])[2].partition(MARKERS[1])[0]
    assert table in section, f"the readers do something else now; the new table is\n\n{table}\n"
    made = f"with diffusers {version('diffusers')} and peft {version('peft')}"
    assert made in " ".join(section.split()), f"the caption has to say {made!r}"


# As counted on sd-scripts: UNet with convolutions, the transformers of the UNet, text encoders.
PUBLISHED = {"sd1": (278, 192, 72), "sd2": (278, 192, 138), "sdxl": (788, 722, 264)}


@pytest.mark.parametrize("family", PUBLISHED)
def test_the_names_of_sd_scripts_are_as_many_as_it_trains(family):
    names = readers.sd_scripts_names(family)
    unet = [name for name in names if name.startswith("lora_unet_")]
    inside = [name for name in unet if re.search("_(transformer_blocks|proj_in|proj_out)", name)]
    assert (len(unet), len(inside), len(names) - len(unet)) == PUBLISHED[family]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reads", readers.BY_NAMES)
def test_a_reader_of_names_finds_no_module_of_another_name(reads, family, tmp_path):
    keys = _names(family, "LoRA with text encoders", "kohya", tmp_path)
    assert reads(keys, family) == readers.EVERY
    renamed = [key.replace("_to_q.", "_to_query.").replace("_text_model_", "_") for key in keys]
    assert reads(renamed, family) != readers.EVERY
    assert reads([key for key in keys if "lora_up" not in key], family) == "finds nothing"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lost", ["output_blocks.3.0.out_layers.3.weight", "fc1.weight"])
def test_a_merged_file_that_lacks_layers_is_noticed(lost, family):
    keys = list(real.original(family))
    if family == "sd2":
        lost = lost.replace("fc1", "mlp.c_fc")
    left = [key for key in keys if not key.endswith(lost)]
    assert len(left) < len(keys)
    assert readers.checkpoint(left, family) != readers.checkpoint(keys, family)
