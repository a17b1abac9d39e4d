import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import datasets_tools

HEAVY = ("torch", "numpy", "PIL", "imagehash", "jinja2", "safetensors", "lora_diffusion")


def test_importing_the_package_loads_nothing_heavy():
    code = f"import sys, datasets_tools; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_checking_and_preparing_need_no_torch(tmp_path):
    code = f"""
import sys
sys.modules["torch"] = None
from datasets_tools import DataSettings, check_folder, prepare_folder, write_report
from tests.datasets_tools.corpus import photos
from pathlib import Path
folder = photos(Path({str(tmp_path)!r}), 2)
write_report(check_folder(folder, DataSettings()), folder / "r.html")
prepare_folder(folder, DataSettings())
"""
    root = Path(datasets_tools.__file__).parent.parent
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, check=True)


def test_public_names_are_sorted_and_all_there():
    assert datasets_tools.__all__ == sorted(datasets_tools.__all__)
    for name in datasets_tools.__all__:
        assert getattr(datasets_tools, name) is not None
    assert set(dir(datasets_tools)) >= set(datasets_tools.__all__)


def test_no_public_name_is_hidden_by_a_module_of_the_same_name():
    modules = {module.name for module in pkgutil.iter_modules(datasets_tools.__path__)}
    assert not modules & set(datasets_tools.__all__)


def test_only_storage_writes_files():
    writing = {"write_text", "write_bytes", "mkdir", "makedirs", "unlink", "rmtree", "touch"}
    for file in Path(datasets_tools.__file__).parent.rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        methods = {node.func.attr for node in calls if isinstance(node.func, ast.Attribute)}
        assert file.name == "storage.py" or not methods & writing, file
