"""Reads and writes PyTorch's checkpoint files of plain tensors, without PyTorch and without pickle.

A `.pth` file is a zip of a pickle, which names the tensors, and one raw file a tensor. Unpickling
runs whatever the file asks for. Here the pickle's instructions are walked instead, by a machine
that knows the few that a `state_dict` needs, and calls nothing: anything else is refused.
"""

from __future__ import annotations

import os
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import LIMITS, atomic_file, existing_file

_STORAGES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
}
_NAMES = {dtype: name for name, dtype in _STORAGES.items()}
_TENSOR, _ORDERED = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
_PARAMETER = "torch._utils _rebuild_parameter"
_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "BINFLOAT")
_WORDS = {"EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_LIST": list}
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    ArithmeticError,
)
_HINT = "only files of torch.save(net.state_dict()) from torch 1.6 or later are read"


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors of a `torch.save(state_dict)` file; runs nothing that is in it.

    Args:
        path: The `.pth` file, in the zip format of torch 1.6 and later.

    Returns:
        Name to array `[...]`, in the file's order; float16 to float64, int32 or int64.

    Raises:
        InputError: no such file, not of that format, damaged, or it holds more than tensors.
    """
    path = existing_file(path, "checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            return _Machine(path, archive).run()
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(path, "", f"is no PyTorch checkpoint ({error})", _HINT) from error


class _Machine:
    """Walks the instructions of one archive's pickle."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self.path, self.archive = path, archive
        pickles = [n for n in archive.namelist() if n.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise InputError(path, "", "is no PyTorch checkpoint: it has no data.pkl", _HINT)
        self.root = pickles[0].removesuffix("data.pkl")
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> dict[str, np.ndarray]:
        """Returns the tensors by name."""
        if self._has("byteorder") and self._bytes("byteorder").strip() != b"little":
            raise self._refused("big-endian numbers")
        for opcode, value, _ in pickletools.genops(self._bytes("data.pkl")):
            self._step(opcode.name, value)
        (found,) = self.stack
        if not isinstance(found, dict):
            raise self._refused("something other than a state_dict")
        tensors = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
        strange = [str(name) for name in found if name not in tensors or not isinstance(name, str)]
        if strange or not tensors:
            held = ", ".join(strange[:3]) or "nothing"
            raise InputError(self.path, held, "is not a tensor", _HINT)
        return tensors

    def _step(self, name: str, value: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _NUMBERS:
            self.stack.append(value)
        elif name in _WORDS:
            self.stack.append(_WORDS[name]())
        elif name == "GLOBAL":
            self.stack.append(_Name(value))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[value] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[value])
        elif name == "MARK":
            self.stack.append(_MARK)
        elif name not in ("PROTO", "STOP", "FRAME"):
            self._combine(name)

    def _combine(self, name: str) -> None:
        """The instructions that take values off the stack."""
        if name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            items = self._marked() if name == "TUPLE" else self._pop(int(name[-1]))
            self.stack.append(tuple(items))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._marked() if name == "SETITEMS" else self._pop(2)
            self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "BINPERSID":
            self.stack.append(_Storage(*self._storage(self.stack.pop())))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            self.stack.append(self._call(function, arguments))
        elif name == "BUILD":
            self.stack.pop()  # Attributes of the mapping, such as layer versions: not needed.
        else:
            raise self._refused(f"the instruction {name}")

    def _pop(self, count: int) -> list[Any]:
        taken = self.stack[len(self.stack) - count :]
        if len(taken) != count:
            raise IndexError("an instruction lacks its values")
        del self.stack[-count:]
        return taken

    def _marked(self) -> list[Any]:
        start = max(i for i, value in enumerate(self.stack) if value is _MARK)
        items = self.stack[start + 1 :]
        del self.stack[start:]
        return items

    def _call(self, function: Any, arguments: Any) -> Any:
        if function == _ORDERED and arguments == ():
            return {}
        if function == _PARAMETER and isinstance(arguments[0], np.ndarray):
            return arguments[0]
        if function == _TENSOR and isinstance(arguments[0], _Storage):
            return self._tensor(*arguments[:4])
        raise self._refused(f"a call of {function}")

    def _storage(self, key: Any) -> tuple[str, str]:
        kind, storage, name = key[0], key[1], key[2]
        if kind != "storage" or storage not in _STORAGES or not str(name).isalnum():
            raise self._refused(f"{storage} {name!r}")
        return _STORAGES[storage], f"data/{name}"

    def _tensor(self, storage: _Storage, offset: int, shape: tuple, strides: tuple) -> np.ndarray:
        values = np.frombuffer(self._bytes(storage.member), storage.dtype)
        if min((offset, *shape, *strides), default=0) < 0 or len(shape) != len(strides):
            raise self._refused(f"a tensor of shape {shape}")
        if 0 in shape:
            return np.zeros(shape, storage.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if last >= len(values):
            why = f"holds {len(values)} numbers, a tensor reaches to the {last + 1}th"
            raise InputError(self.path, storage.member, why, "the file is damaged")
        steps = [step * values.itemsize for step in strides]
        return np.lib.stride_tricks.as_strided(values[offset:], shape, steps).copy()

    def _has(self, member: str) -> bool:
        return self.root + member in self.archive.namelist()

    def _bytes(self, member: str) -> bytes:
        size = self.archive.getinfo(self.root + member).file_size
        if size > LIMITS.tensor_bytes:
            raise InputError(
                self.path, member, f"has {size} bytes", f"at most {LIMITS.tensor_bytes}"
            )
        return self.archive.read(self.root + member)

    def _refused(self, what: str) -> InputError:
        return InputError(self.path, "", f"holds {what}, which no plain state_dict has", _HINT)


class _Name(str):
    """The name of a global; never looked up."""


class _Storage:
    """Where a tensor's numbers lie."""

    def __init__(self, dtype: str, member: str):
        self.dtype, self.member = dtype, member


def write_state_dict(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file that `torch.load(path, weights_only=True)` reads.

    Args:
        path: The `.pth` file; replaced whole.
        tensors: Name to array `[...]`; float16 to float64, int32 or int64.

    Raises:
        InputError: an array of another dtype, or the file cannot be written.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    arrays = {
        n: a.reshape(np.shape(tensors[n])).astype(a.dtype.newbyteorder("<"))
        for n, a in arrays.items()
    }
    for name, array in arrays.items():
        if array.dtype.str not in _NAMES:
            raise InputError(path, name, f"is {array.dtype}, which is not written")
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr("archive/data.pkl", _instructions(arrays))
        archive.writestr("archive/byteorder", b"little")
        for number, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{number}", array.tobytes())
        archive.writestr("archive/version", b"3\n")


def _instructions(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The pickle, protocol 2, of an OrderedDict of tensors."""
    parts = [b"\x80\x02", _global(_ORDERED), b")R("]
    for number, (name, array) in enumerate(arrays.items()):
        storage = b"(" + _text("storage") + _global(_NAMES[array.dtype.str])
        storage += _text(str(number)) + _text("cpu") + _whole(array.size) + b"tQ"
        strides = [step // array.itemsize for step in array.strides]
        place = _whole(0) + _tuple(array.shape) + _tuple(strides)
        parts += [_text(name), _global(_TENSOR), b"(", storage, place]
        parts += [b"\x89", _global(_ORDERED), b")R", b"tR"]
    return b"".join([*parts, b"u."])


def _global(name: str) -> bytes:
    return b"c" + name.replace(" ", "\n").encode() + b"\n"


def _text(text: str) -> bytes:
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _whole(number: int) -> bytes:
    raw = int(number).to_bytes(8, "little", signed=True)
    return b"\x8a\x08" + raw


def _tuple(numbers) -> bytes:
    return b"(" + b"".join(_whole(number) for number in numbers) + b"t"
