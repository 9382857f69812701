"""Public functions say what they take and give: shapes of arrays, in brackets."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "msi2he_jax"
ARRAYS = re.compile(r"\b(np\.ndarray|jax\.Array|jnp\.ndarray|ArrayLike)\b")
SHAPE = re.compile(r"\[[^\]]*\]|\bscalar\b")


def _public_functions():
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield pytest.param(node, id=f"{path.relative_to(PACKAGE)}:{node.name}")


@pytest.mark.parametrize("node", list(_public_functions()))
def test_docstring(node):
    doc = ast.get_docstring(node)
    assert doc, "no docstring"
    if isinstance(node, ast.ClassDef):
        return
    for argument in [*node.args.args, *node.args.kwonlyargs]:
        if argument.annotation and ARRAYS.search(ast.unparse(argument.annotation)):
            entry = re.search(rf"^\s*\*?{argument.arg}\b[^\n]*(\n\s{{6,}}[^\n]*)*", doc, re.M)
            entry = entry or re.search(rf"`{argument.arg}`[^\n]*", doc)
            assert entry, f"array argument {argument.arg} is not described"
            assert SHAPE.search(entry.group()) or SHAPE.search(doc.split("Args:")[0]), (
                f"array argument {argument.arg} has no shape in brackets"
            )
    if node.returns is not None and ARRAYS.search(ast.unparse(node.returns)):
        assert SHAPE.search(doc), "a returned array has no shape in brackets"
