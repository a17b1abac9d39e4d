"""Who may import whom: left may import right, read from the source without running it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import datasets_tools
import lora_diffusion

ROOT = Path(__file__).parents[2]

ALLOWED = {
    "datasets_tools": {"datasets_tools"},
    "lora_diffusion.errors": set(),
    "lora_diffusion.seeds": set(),
    "lora_diffusion.embedded": {"errors"},
    "lora_diffusion.settings": {"errors"},
    "lora_diffusion.devices": {"errors"},
    "lora_diffusion.objectives": {"errors"},
    "lora_diffusion.adapters": {"adapters", "errors", "seeds"},
    "lora_diffusion.families": {"families", "adapters", "objectives", "errors", "embedded"},
    "lora_diffusion.files": {"files", "families", "adapters", "errors", "datasets_tools"},
    "lora_diffusion.blocks": {"errors"},
    "lora_diffusion.parts": {"blocks", "errors"},
    "lora_diffusion.outputs": {"errors"},
    "lora_diffusion.lowrank": {"files", "adapters", "errors"},
    "lora_diffusion.generation": {
        "generation", "parts", "lowrank", "files", "families", "adapters", "seeds", "devices", "errors",
        "datasets_tools",
    },
    "lora_diffusion.training": {
        "training", "generation", "files", "families", "adapters", "objectives", "seeds", "settings", "devices",
        "embedded", "errors", "datasets_tools",
    },
    "lora_diffusion.basefinding": {"families", "errors"},
    "lora_diffusion.checking": {"training", "settings", "embedded", "datasets_tools"},
    "lora_diffusion.preparing": {"checking", "training", "families", "embedded", "datasets_tools"},
    "lora_diffusion.console": set(),
    "lora_diffusion.scaled": set(),
    "lora_diffusion.extracting": {"lowrank", "scaled", "files", "adapters", "errors"},
    "lora_diffusion.resizing": {"lowrank", "files", "adapters", "errors"},
    "lora_diffusion.conflicts": {"generation", "blocks", "lowrank", "files", "adapters", "errors", "datasets_tools"},
    "lora_diffusion.folding": {"scaled", "parts", "files", "adapters", "errors"},
    "lora_diffusion.residual": {"lowrank", "files", "adapters"},
    "lora_diffusion.merging": {
        "folding", "residual", "scaled", "parts", "outputs", "files", "families", "errors", "datasets_tools",
    },
    "lora_diffusion.card": {"generation", "files", "outputs", "errors", "datasets_tools"},
    "lora_diffusion.library": {
        "library", "exporting", "card", "generation", "files", "parts", "blocks", "outputs", "errors", "datasets_tools",
    },
    "lora_diffusion.exporting": {"card", "files", "generation", "outputs", "errors", "datasets_tools"},
    "lora_diffusion.evaluation": {
        "evaluation", "conflicts", "demo", "generation", "files", "outputs", "families", "seeds", "devices", "embedded",
        "errors", "datasets_tools",
    },
    "lora_diffusion.choosing": {"evaluation", "training", "files", "errors"},
    "lora_diffusion.progress": {"training"},
    "lora_diffusion.demo": {
        "demo", "objectives", "embedded", "errors", "exporting", "merging", "families", "files", "generation",
        "progress", "settings", "seeds", "training", "datasets_tools",
    },
}  # fmt: skip
"""Package or module -> which of ours it may import; cli may import all of them and nobody imports cli."""

ONE_PLACE = {
    "diffusers": {"families", "generation", "demo"},
    "transformers": {"families", "generation", "demo", "evaluation", "datasets_tools"},
    "accelerate": {"training"},
    "typer": {
        "cli",
        "cli_audit",
        "cli_caption",
        "cli_evaluate",
        "cli_files",
        "cli_generate",
        "cli_home",
        "cli_library",
        "cli_pictures",
        "cli_plan",
        "cli_rights",
        "cli_ui",
        "console",
    },
    "gradio": {"webui"},
    "fastapi": {"webui"},
    "uvicorn": {"webui"},
    "sqlite3": {"library", "webui"},
    "psutil": {"training", "webui"},
    "onnxruntime": {"datasets_tools"},
    "rich": {"cli", "progress"},
    "peft": set(),
    "lycoris": set(),
}
"""Third-party package -> the only parts of lora_diffusion that touch it."""


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at the top or inside a function; `import a.b` and `from a import b` alike."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def sources() -> list[Path]:
    return sorted(
        path for package in ("lora_diffusion", "datasets_tools", "webui") for path in (ROOT / package).rglob("*.py")
    )


def part_of(path: Path) -> str:
    """The key of ALLOWED that a file falls under."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "datasets_tools" else ".".join(parts[:2])


def short(module: str) -> str:
    """`lora_diffusion.files.adapter` -> files; `datasets_tools.image` -> datasets_tools."""
    return [*module.split("."), ""][1] if module.startswith("lora_diffusion") else module.split(".")[0]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_lies_to_its_right(path):
    part = part_of(path)
    if part.startswith("webui"):
        return  # the next test
    ours = {short(module) for module in imports(path) if module.startswith(("lora_diffusion.", "datasets_tools"))}
    if part in (
        "lora_diffusion.cli",
        "lora_diffusion.cli_audit",
        "lora_diffusion.cli_caption",
        "lora_diffusion.cli_home",
        "lora_diffusion.cli_library",
        "lora_diffusion.cli_pictures",
        "lora_diffusion.cli_evaluate",
        "lora_diffusion.cli_files",
        "lora_diffusion.cli_generate",
        "lora_diffusion.cli_plan",
        "lora_diffusion.cli_rights",
        "lora_diffusion.cli_ui",
        "lora_diffusion.__main__",
        "lora_diffusion.__init__",
    ):
        return
    assert part in ALLOWED, f"{part} is new: say in ALLOWED what it may import"
    assert ours <= ALLOWED[part], f"{part} may not import {sorted(ours - ALLOWED[part])}"


@pytest.mark.parametrize(
    "path", [path for path in sources() if "webui" in path.parts], ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_studio_uses_public_names_alone_and_no_torch(path):
    found = imports(path)
    assert not {"torch", "diffusers", "transformers", "accelerate"} & {module.split(".")[0] for module in found}
    inner = {module for module in found if module.startswith(("lora_diffusion.", "datasets_tools."))}
    public = {f"lora_diffusion.{name}" for name in lora_diffusion.__all__}
    public |= {f"datasets_tools.{name}" for name in datasets_tools.__all__}
    assert inner <= public


@pytest.mark.parametrize("package", sorted(ONE_PLACE))
def test_a_third_party_package_is_touched_in_one_place(package):
    users = {
        short(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for path in sources()
        if any(module.split(".")[0] == package for module in imports(path))
    }
    assert users <= ONE_PLACE[package]


def test_datasets_tools_needs_torch_in_the_cache_alone():
    users = [path.name for path in sources() if "datasets_tools" in path.parts and "torch" in imports(path)]
    assert users == ["cache.py"]


def test_nothing_is_pickled():
    banned = ("torch.load(", "pickle", "allow_pickle", "torch.save(")
    code = {path: ast.unparse(_without_text(ast.parse(path.read_text("utf-8")))) for path in sources()}
    assert not [(path.name, word) for path, text in code.items() for word in banned if word in text]


def _without_text(tree: ast.Module) -> ast.Module:
    """Blank every string, so that a message about pickled files is no use of them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return tree


def test_importing_the_packages_loads_nothing_heavy():
    code = "import sys, lora_diffusion, datasets_tools, lora_diffusion.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "diffusers", "transformers", "accelerate", "numpy", "PIL", "gradio", "fastapi"} & set(loaded)
