"""What is public is said in __all__, sorted, and exists."""

import ast
import importlib
import pkgutil

import pytest

import datasets_tools
import lora_diffusion


def modules():
    for package in (lora_diffusion, datasets_tools):
        yield package.__name__
        yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


@pytest.mark.parametrize("name", [name for name in modules() if not name.endswith("__main__")])
def test_public_names_are_sorted_and_exist(name):
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert list(names) == sorted(names, key=lambda each: (not each.isupper(), not each[0].isupper(), each))
    assert all(getattr(module, each) is not None for each in names)


@pytest.mark.parametrize("name", [name for name in modules() if not name.endswith("__main__")])
def test_every_public_function_and_class_has_a_docstring_or_a_parent_that_has(name):
    module = importlib.import_module(name)
    with open(module.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    public = set(getattr(module, "__all__", []))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in public]
    assert not [node.name for node in functions if not ast.get_docstring(node)]
    assert tree.body == [] or ast.get_docstring(tree), f"{name} does not say what it is"


def test_a_public_name_is_never_hidden_by_a_module():
    for name in lora_diffusion.__all__:
        assert callable(getattr(lora_diffusion, name))
        assert not pkgutil.get_importer(lora_diffusion.__path__[0]).find_spec(name)
