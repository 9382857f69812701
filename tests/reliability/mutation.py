"""Mutation testing: `python tests/reliability/mutation.py [NAME ...] [--most=N] [--limit_s=S]`.

Changes one thing in a module (a comparison, `and` for `or`, a number, a condition to its opposite,
a statement left out, a returned value to None), and runs its tests: one of them must fail. Texts of
messages are left alone. Works in a copy; prints the survivors and the score as JSON. With `--most`,
so many changes of each module, drawn at random with a fixed seed. A change after which the tests
take longer than `--limit_s` counts as found.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator

import rounds

ROOT = pathlib.Path(__file__).resolve().parents[2]
_OF_IMZML = ["tests/msi/test_imzml.py", "tests/msi/test_imzml_damage.py"]
_OF_IMZML += [
    "tests/msi/test_imzml_stated.py",
    "tests/hostile/test_imzml_binary.py",
    "tests/hostile/test_imzml_odd.py",
    "tests/hostile/test_imzml_text.py",
]
MODULES = {
    "io_safety": ("msi2he_jax/io_safety.py", ["tests/test_io_safety.py"]),
    "split": ("msi2he_jax/data/split.py", ["tests/data/test_split.py"]),
    "checkpoint": (
        "msi2he_jax/training/checkpoint.py",
        ["tests/training/test_checkpoint.py", "tests/training/test_checkpoint_faults.py"],
    ),
    "transforms": (
        "msi2he_jax/registration/transforms.py",
        [
            f"tests/registration/test_{each}.py"
            for each in ("transforms", "transform_value", "warping")
        ],
    ),
    "cohort": (
        "msi2he_jax/data/cohort.py",
        ["tests/data/test_cohort.py", "tests/data/test_leakage.py", "tests/data/test_scale_out.py"],
    ),
    "imzml": ("msi2he_jax/msi/imzml.py", _OF_IMZML),
    "imzml_index": ("msi2he_jax/msi/imzml_index.py", _OF_IMZML),
    "imzml_arrays": ("msi2he_jax/msi/imzml_arrays.py", _OF_IMZML),
}
OTHER = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Yields (line, what was done, source) of each change."""
    tree = ast.parse(source)
    idle = _annotations(tree)
    for index, node in enumerate(ast.walk(tree)):
        for kind in () if id(node) in idle else _kinds(node):
            changed = copy.deepcopy(tree)
            target = next(n for i, n in enumerate(ast.walk(changed)) if i == index)
            _apply(kind, target)
            text = ast.unparse(ast.fix_missing_locations(changed))
            yield getattr(node, "lineno", 0), f"{kind}: {ast.unparse(node)[:80]}", text


def _annotations(tree: ast.AST) -> set[int]:
    """Returns what is never evaluated: the types written beside names."""
    fields = ("annotation", "returns")
    written = [getattr(node, field, None) for node in ast.walk(tree) for field in fields]
    return {id(part) for each in written if each is not None for part in ast.walk(each)}


def _kinds(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OTHER:
        return ["comparison"]
    if isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in OTHER:
        return ["operator"]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ["not"]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        return ["constant"]
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        return ["condition"]
    if isinstance(node, ast.Return) and node.value is not None:
        return ["return"]
    if isinstance(node, ast.Raise | ast.AugAssign) or _is_call(node):
        return ["left out"]
    return []


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _apply(kind: str, node: ast.AST) -> None:
    if kind == "comparison":
        node.ops[0] = OTHER[type(node.ops[0])]()
    elif kind == "operator":
        node.op = OTHER[type(node.op)]()
    elif kind == "not":
        node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
    elif kind == "constant":
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif kind == "condition":
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif kind == "return":
        node.value = ast.Constant(None)
    else:  # Becomes a statement without effect.
        node.__class__ = ast.Pass
        node._fields = ()


def _survives(folder: pathlib.Path, tests: list[str], limit_s: float) -> bool:
    """Whether all tests pass in the copy."""

    def run() -> int:
        import pytest

        os.chdir(folder)
        sys.path.insert(0, str(folder))
        quiet = ["-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        return int(pytest.main([*tests, *quiet]))

    try:
        return rounds.run(run, folder / "log", limit_s) == 0
    except TimeoutError:
        return False


def score(name: str, folder: pathlib.Path, most: int | None, limit_s: float) -> dict:
    """Tests the mutants of a module; returns how many were found and which were not."""
    path, tests = MODULES[name]
    place, survivors = folder / path, []
    source = place.read_text()
    place.write_text(ast.unparse(ast.parse(source)))
    if not _survives(folder, tests, limit_s):
        raise RuntimeError((folder / "log").read_text()[-3000:])
    every = list(mutants(source))
    drawn = every if most is None else random.Random(0).sample(every, min(most, len(every)))
    for line, what, text in drawn:
        place.write_text(text)
        if _survives(folder, tests, limit_s):
            survivors.append(f"line {line}: {what}")
            print(f"{path}:{line}: survives: {what}", file=sys.stderr, flush=True)
    place.write_text(source)
    found, count = len(drawn) - len(survivors), {"possible": len(every), "mutants": len(drawn)}
    percent = round(100 * found / len(drawn), 1)
    return {**count, "found": found, "percent": percent, "survivors": survivors}


def main() -> int:
    """Scores the modules named, or all."""
    import jax  # noqa: F401  Children need not import it again.
    import numpy  # noqa: F401
    import orbax.checkpoint  # noqa: F401

    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*MODULES, []], default=[])
    parser.add_argument("--most", type=int)
    parser.add_argument("--limit_s", type=float, default=120.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        for name in ("msi2he_jax", "tests", "configs"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copy(ROOT / "setup.cfg", folder)
        limits = options.most, options.limit_s
        found = {name: score(name, folder, *limits) for name in options.names or MODULES}
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
