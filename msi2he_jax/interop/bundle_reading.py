"""Reads a bundle of `bundle.write_bundle`, which may come from anywhere; needs jax alone.

A program in StableHLO can call into the machine it runs on. So every operation is looked at, and
only what our generators are made of is taken.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.interop import program_operations
from msi2he_jax.interop.bundle import FORMAT, PROGRAM, SHEET
from msi2he_jax.io_safety import LIMITS, existing_file
from msi2he_jax.json_schema import (
    BOOLEAN,
    COUNT,
    NUMBER,
    POSITIVE,
    TEXT,
    Kind,
    check_json,
    choice,
)
from msi2he_jax.plain_json import json_value

_MEMBERS = (PROGRAM, SHEET, "config.json", "provenance.json")
_DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError, OSError)
_SIDE = Kind(
    '"b", or a whole number from 1 to 65536',
    lambda value: value == "b" or (COUNT.accepts(value) and 1 <= value <= 65_536),
)
_IMAGE = {"shape": [_SIDE], "dtype": choice("float32"), "range": [NUMBER]}
_SCALING = {"transform": choice("sqrt", "none"), "percentile?": NUMBER, "scale": [POSITIVE]}
_SHEET = {
    "format": choice(FORMAT),
    "msi2he_jax": TEXT,
    "jax": TEXT,
    "input": {**_IMAGE, "channels_mz": [NUMBER], "scaling": _SCALING},
    "output": _IMAGE,
    "norm": choice("batch", "running"),
    "dropout": BOOLEAN,
    "step": COUNT,
    "which": choice("best", "latest"),
    "platforms": [choice("cpu", "cuda", "rocm", "tpu")],
    "synthetic": TEXT,
}
_DIALECTS = ("builtin", "func", "stablehlo", "chlo")
_OUTWARD = tuple(
    f"stablehlo.{name}" for name in ("custom_call", "infeed", "outfeed", "send", "recv")
)
_CALLS = ('stablehlo.custom_call "shape_assertion"',)  # All that our programs call.


def read_bundle(
    path: str | os.PathLike,
) -> tuple[Callable[[np.ndarray], jax.Array], dict[str, Any]]:
    """Reads a bundle; needs jax alone.

    Args:
        path: The `.zip`.

    Returns:
        The generator, `[B, H, W, K]` float32 in [0, 1] to `[B, H, W, 3]` in [-1, 1], and
        `bundle.json`.

    Raises:
        InputError: no such file, not a bundle, damaged, larger than `LIMITS`, or a program that
            does what no generator does.
    """
    path = existing_file(path, "bundle")
    members = _members(path)
    try:
        sheet = json_value(members[SHEET].decode("utf-8"), LIMITS.json_depth)
    except ValueError as error:
        raise InputError(path, SHEET, f"is not valid JSON: {error}") from error
    check_json(path, sheet, _SHEET)
    _check_shapes(path, sheet)
    program = _program(path, members[PROGRAM])
    _check_program(path, program, sheet)
    return program.call, sheet


def _members(path: Path) -> dict[str, bytes]:
    """Unpacks what a bundle holds, once its names and sizes are looked at."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sorted(each.filename for each in entries) != sorted(_MEMBERS):
                raise ValueError(f"holds other files than {', '.join(_MEMBERS)}")
            for each in entries:
                limit = "tensor_bytes" if each.filename == PROGRAM else "text_bytes"
                if each.file_size > getattr(LIMITS, limit):
                    why = f"has {each.file_size} bytes"
                    hint = f"--limits.{limit}={each.file_size} allows more"
                    raise InputError(path, each.filename, why, hint)
            return {each.filename: archive.read(each) for each in entries}
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(path, "", f"is no bundle ({error})", "make one with export") from error


def _check_shapes(path: Path, sheet: dict[str, Any]) -> None:
    taken, given = sheet["input"], sheet["output"]
    channels = len(taken["channels_mz"])
    for name, found, depth in (("input", taken["shape"], channels), ("output", given["shape"], 3)):
        sides = ["b", *taken["shape"][1:3], depth]
        if found != sides or "b" in sides[1:] or len(sides) != 4:
            raise InputError(path, f"{name}.shape", f"is {found}, expected [b, H, W, {depth}]")
    if len(taken["scaling"]["scale"]) != channels:
        raise InputError(path, "input.scaling.scale", f"does not have {channels} values")


def _program(path: Path, content: bytes) -> jax.export.Exported:
    try:
        return jax.export.deserialize(bytearray(content))
    except Exception as error:  # FlatBuffers checks nothing: anything can come of damage.
        why = f"cannot be read: {str(error)[:200] or type(error).__name__}"
        raise InputError(path, PROGRAM, why, "export it again, or update jax") from error


def _check_program(path: Path, program: jax.export.Exported, sheet: dict[str, Any]) -> None:
    """Refuses a program of other shapes than the sheet's, or that does what no generator does."""
    for name, found in (("input", program.in_avals), ("output", program.out_avals)):
        said = [[str(side) for side in each.shape] + [str(each.dtype)] for each in found]
        if said != [[*map(str, sheet[name]["shape"]), "float32"]]:
            why = f"of the program is not the shape that {SHEET} says"
            raise InputError(path, name, why, "export it again")
    plain = (program.nr_devices, program.ordered_effects, program.unordered_effects)
    if plain != (1, (), ()) or program.disabled_safety_checks:
        raise InputError(
            path, PROGRAM, "asks for devices, effects or fewer checks", "it is not ours"
        )
    for operation in _operations(path, program.mlir_module_serialized):
        ours = operation.partition(".")[0] in _DIALECTS and not operation.startswith(_OUTWARD)
        if not ours and operation not in _CALLS:
            raise InputError(path, PROGRAM, f"{operation[:80]} is in no generator")


def _operations(path: Path, serialized: bytes) -> list[str]:
    """Lists the operations of a program in a process that damage may end."""
    words = [sys.executable, "-I", program_operations.__file__]
    done = subprocess.run(words, input=serialized, capture_output=True, check=False)
    if done.returncode:
        why = "holds no StableHLO that can be read"
        raise InputError(path, PROGRAM, why, "export it again, or update jax")
    return done.stdout.decode().splitlines()
