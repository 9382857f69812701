"""Public functions say what they take and give: shapes of arrays, in brackets."""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "msi2he_jax"
ARRAYS = re.compile(r"\b(np\.ndarray|jax\.Array|jnp\.ndarray|ArrayLike)\b")
SHAPE = re.compile(r"\[[^\]]*\]|\bscalars?\b|\b[Ll]ikewise\b|\bkey\b")  # a PRNG key has no shape


def _public_functions():
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield pytest.param(node, id=f"{path.relative_to(PACKAGE)}:{node.name}")


def _is_array(annotation: ast.expr | None) -> bool:
    """Whether an annotation speaks of arrays, other than as what a function takes or gives."""
    text = ast.unparse(annotation) if annotation else ""
    return bool(ARRAYS.search(text)) and "Callable" not in text


@pytest.mark.parametrize("node", list(_public_functions()))
def test_docstring(node):
    doc = ast.get_docstring(node)
    assert doc, "no docstring"
    if isinstance(node, ast.ClassDef):
        return
    for argument in [*node.args.args, *node.args.kwonlyargs]:
        if _is_array(argument.annotation) and "Args:" not in doc:
            assert SHAPE.search(doc), "an array argument has no shape in brackets"
        elif _is_array(argument.annotation):
            entry = re.search(rf"^\s*\*?{argument.arg}\b[^\n]*(\n\s{{6,}}[^\n]*)*", doc, re.M)
            entry = entry or re.search(rf"`{argument.arg}`[^\n]*", doc)
            assert entry, f"array argument {argument.arg} is not described"
            assert SHAPE.search(entry.group()) or SHAPE.search(doc.split("Args:")[0]), (
                f"array argument {argument.arg} has no shape in brackets"
            )
    if _is_array(node.returns):
        assert SHAPE.search(doc), "a returned array has no shape in brackets"
