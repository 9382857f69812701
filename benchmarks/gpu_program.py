"""Counts the kernels of a compiled GPU program from its text (optimised HLO).

A kernel moves its result and its operands once; of an operand that a fusion only slices or gathers
from, the parts.
Convolutions and matrix products are told by the library call or the fusion's own name; what is left
is put under what it works on: weights, activations, or less than `TINY_BYTES`.
"""

from __future__ import annotations

import collections
import dataclasses
import re

import numpy as np

TINY_BYTES = 100_000
_SIZES = {"bf16": 2, "f16": 2, "f32": 4, "f64": 8, "pred": 1}
_SIZES |= {f"{sign}{8 * size}": size for sign in "su" for size in (1, 2, 4, 8)}
_NO_KERNEL = ("parameter", "get-tuple-element", "tuple", "constant", "bitcast", "while")
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%([\w.\-]+) = (.*?) ([\w\-]+)\((.*)")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One launch.

    Attributes:
        kind: `convolution`, `matrix product`, `collective`, `weights`, `activations` or `tiny`.
        name: Of the instruction.
        bytes: Read and written.
        operation: HLO's name of what it does.
    """

    kind: str
    name: str
    bytes: int
    operation: str


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    operation: str
    rest: str

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest.split("), ")[0])

    def mentions(self, word: str) -> str | None:
        """The value of an attribute such as `calls=%name`."""
        found = re.search(word + r"=%?\"?([\w.$\-]+)", self.rest)
        return found.group(1) if found else None


def program_kernels(text: str, *, one_turn: bool = False) -> list[Kernel]:
    """Returns the kernels of a program, those of a loop as often as it turns.

    Args:
        text: Of an optimised module, as `Compiled.as_text()` gives it.
        one_turn: Only those of one turn of its first loop: of one training step.
    """
    computations = _computations(text)
    entry = next(body for body in computations.values() if body.lstrip().startswith("ENTRY"))
    loops = [line for line in entry.splitlines() if " while(" in line]
    bodies = [_kernels(computations[_named(r"body=%([\w.\-]+)", x)], computations) for x in loops]
    if one_turn:
        return bodies[0]
    turns = [int(_named(r'known_trip_count":\{"n":"(\d+)', line) or 1) for line in loops]
    repeated = [each for body, count in zip(bodies, turns, strict=True) for each in body * count]
    return _kernels(entry, computations) + repeated


def _named(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None


def _computations(text: str) -> dict[str, str]:
    blocks = re.split(r"\n(?=(?:ENTRY )?%[\w.\-]+ \()", text)
    named = ((re.match(r"\s*(?:ENTRY )?%([\w.\-]+) \(", block), block) for block in blocks)
    return {match.group(1): block for match, block in named if match}


def _instructions(body: str) -> list[_Instruction]:
    found = (_INSTRUCTION.match(line) for line in body.splitlines())
    return [_Instruction(*match.groups()) for match in found if match]


def _kernels(body: str, computations: dict[str, str]) -> list[Kernel]:
    shapes, kernels = {}, []
    for each in _instructions(body):
        shapes[each.name] = each.shape
        if each.operation in _NO_KERNEL or each.operation.endswith("-done"):
            continue
        sizes = [shape_bytes(shapes.get(name, "")) for name in each.operands]
        called = each.mentions("calls")
        if each.operation == "fusion" and called in computations:
            sizes = _sliced(sizes, _instructions(computations[called]))
        moved = shape_bytes(each.shape) + sum(sizes)
        dimensions = _largest([each.shape, *(shapes.get(name, "") for name in each.operands)])
        kernels.append(Kernel(_kind(each, moved, dimensions), each.name, moved, each.operation))
    return kernels


def _sliced(sizes: list[int], inner: list[_Instruction]) -> list[int]:
    """Bytes of a fusion's operands; of one only sliced or gathered from, those of its parts."""
    sizes = list(sizes)
    for parameter in inner:
        if parameter.operation != "parameter":
            continue
        number = int(parameter.rest.split(")")[0])
        users = [each for each in inner if parameter.name in each.operands]
        slices = ("slice", "dynamic-slice", "gather")
        if users and number < len(sizes) and all(each.operation in slices for each in users):
            sizes[number] = min(sizes[number], sum(shape_bytes(each.shape) for each in users))
    return sizes


def _kind(each: _Instruction, moved: int, dimensions: list[int]) -> str:
    target = each.mentions("custom_call_target") or ""
    if "cudnn$conv" in target:
        return "convolution"
    if "cublas" in target or "gemm_fusion" in each.name:
        return "matrix product"
    if each.operation.startswith(("all-", "reduce-scatter", "collective")):
        return "collective"
    if moved < TINY_BYTES:
        return "tiny"
    return "weights" if _is_kernel(dimensions) else "activations"


def _is_kernel(dimensions: list[int]) -> bool:
    """Whether an array's shape is that of a 4 x 4 convolution's kernel, in either layout."""
    if len(dimensions) == 4:
        return [4, 4] in (dimensions[:2], dimensions[1:3]) and min(dimensions) >= 1
    return len(dimensions) == 2 and min(dimensions) >= 512


def _arrays(shape: str) -> list[tuple[int, list[int]]]:
    found = []
    for kind, numbers in _ARRAY.findall(shape):
        sides = [int(number) for number in numbers.split(",") if number]
        found.append((_SIZES.get(kind, 4) * int(np.prod(sides or [1])), sides))
    return found


def shape_bytes(shape: str) -> int:
    """Returns the size of an array or tuple of arrays, such as `f32[4,8]{1,0}`, bytes."""
    return sum(size for size, _ in _arrays(shape))


def _largest(shapes: list[str]) -> list[int]:
    arrays = [array for shape in shapes for array in _arrays(shape)]
    return max(arrays, default=(0, []))[1]


def summarize(kernels: list[Kernel]) -> dict[str, float]:
    """Returns counts and traffic of a program: what the plan's table shows.

    Returns:
        `kernels`; `traffic_gb`, all bytes; `other_gb`, without convolutions and matrix products;
        `copies_gb` and `transposes_gb` of arrays above `TINY_BYTES`; `collectives` and their
        `collectives_mb` (results); and `KIND_gb` of each kind.
    """
    by_kind = collections.Counter()
    for each in kernels:
        by_kind[each.kind] += each.bytes
    large = [each for each in kernels if each.bytes >= TINY_BYTES]
    total = sum(by_kind.values())
    other = total - by_kind["convolution"] - by_kind["matrix product"]
    shared = [each for each in kernels if each.kind == "collective"]
    return {
        "kernels": len(kernels),
        "traffic_gb": total / 1e9,
        "other_gb": other / 1e9,
        "copies_gb": sum(x.bytes for x in large if x.operation == "copy") / 1e9,
        "transposes_gb": sum(x.bytes for x in large if "transpose" in x.name) / 1e9,
        "collectives": len(shared),
        "collectives_mb": sum(x.bytes for x in shared) / 2e6,
        **{f"{kind.replace(' ', '_')}_gb": by_kind[kind] / 1e9 for kind in sorted(by_kind)},
    }
