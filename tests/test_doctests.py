"""Examples in docstrings run, and give what they say."""

import ast
import doctest
import importlib
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "msi2he_jax"
LEAST = 25


def _examples():
    """(module, function) of each public function whose docstring has an example."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(("msi2he_jax", *path.relative_to(PACKAGE).with_suffix("").parts))
        for node in ast.parse(path.read_text()).body:
            public = isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
            if public and ">>> " in (ast.get_docstring(node) or ""):
                yield module, node.name


@pytest.mark.parametrize(("module", "name"), list(_examples()))
def test_example(module, name):
    found = importlib.import_module(module)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    finder = doctest.DocTestFinder(recurse=False)
    said = []
    for each in finder.find(getattr(found, name), name, module=False, globs=dict(vars(found))):
        runner.run(each, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_there_are_enough():
    assert len(list(_examples())) >= LEAST
