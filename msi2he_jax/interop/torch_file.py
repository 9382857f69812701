"""Reads and writes PyTorch's checkpoint files of plain tensors, without PyTorch and without pickle.

A `.pth` file is a zip of a pickle, which names the tensors, and one raw file a storage of numbers.
`torch_pickle` walks the pickle. `torch.save` compresses nothing, and what is compressed is refused:
so no small file can ask for much memory.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.interop.torch_pickle import (
    ORDERED,
    STORAGES,
    TENSOR,
    Refused,
    Storage,
    Tensor,
    read_pickle,
)
from msi2he_jax.io_safety import LIMITS, atomic_file, existing_file

_NAMES = {dtype: name for name, dtype in STORAGES.items()}
_ENCRYPTED = 0x1  # The bit of a zip entry's flags.
_DAMAGE = (
    zipfile.BadZipFile,
    struct.error,
    EOFError,
    OSError,
    LookupError,
    TypeError,
    RuntimeError,
    ValueError,
    ArithmeticError,
)
_HINT = "only files of torch.save(net.state_dict()) from torch 1.6 or later are read"


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the tensors of a `torch.save(state_dict)` file; runs nothing that is in it.

    Args:
        path: The `.pth` file, in the zip format of torch 1.6 and later.

    Returns:
        Name to array `[...]`, in the file's order; float16 to float64, int32 or int64. Arrays are
        read-only, and share memory where the file's tensors share their numbers.

    Raises:
        InputError: no such file, not of that format, damaged, it holds more than tensors, or more
            than the limits allow.
    """
    path = existing_file(path, "checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(path, archive).tensors()
    except InputError:
        raise
    except Refused as error:
        why = f"holds {error}, which no plain state_dict has"
        raise InputError(path, "", why, _HINT) from error
    except _DAMAGE as error:
        raise InputError(path, "", f"is no PyTorch checkpoint ({error})", _HINT) from error


class _Archive:
    """The members of one file; each is read once, and only as far as a tensor reaches."""

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        self.path, self.archive = path, archive
        pickles = [n for n in archive.namelist() if n.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise InputError(path, "", "is no PyTorch checkpoint: it has no data.pkl", _HINT)
        self.root = pickles[0].removesuffix("data.pkl")

    def tensors(self) -> dict[str, np.ndarray]:
        """Returns the tensors by name."""
        if self._has("byteorder") and self._read("byteorder", 16).strip() != b"little":
            raise Refused("big-endian numbers")
        size = self._member("data.pkl").file_size
        if size > LIMITS.pickle_bytes:
            raise self._too_large("data.pkl", size, "pickle_bytes")
        found = read_pickle(self._read("data.pkl", size))
        strange = [str(n) for n, x in found.items() if type(n) is not str or type(x) is not Tensor]
        if strange or not found:
            held = ", ".join(strange[:3]) or "nothing"
            raise InputError(self.path, held, "is not a tensor", _HINT)
        content = self._content(found)
        return {name: _array(tensor, content) for name, tensor in found.items()}

    def _content(self, tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
        """Reads the numbers that the tensors need, by member; all in all within the limit."""
        needed: dict[str, int] = {}
        for tensor in tensors.values():
            member, reach = tensor.storage.member, self._checked_reach(tensor)
            needed[member] = max(needed.get(member, 0), reach)
        if sum(needed.values()) > LIMITS.tensor_bytes:
            raise self._too_large("data", sum(needed.values()), "tensor_bytes")
        return {member: self._read(member, size) for member, size in needed.items()}

    def _checked_reach(self, tensor: Tensor) -> int:
        """Returns how many bytes of its storage a tensor needs.

        Raises:
            InputError: the storage is shorter.
        """
        storage, size = tensor.storage, np.dtype(tensor.storage.dtype).itemsize
        held = self._member(storage.member).file_size // size
        if tensor.reach > held:
            why = f"holds {held} numbers, a tensor reaches to the {tensor.reach}th"
            raise InputError(self.path, storage.member, why, "the file is damaged")
        return tensor.reach * size

    def _has(self, member: str) -> bool:
        return self.root + member in self.archive.NameToInfo

    def _member(self, member: str) -> zipfile.ZipInfo:
        info = self.archive.getinfo(self.root + member)
        if info.flag_bits & _ENCRYPTED:
            raise InputError(self.path, member, "is encrypted", _HINT)
        if info.compress_type != zipfile.ZIP_STORED:
            hint = "torch.save compresses nothing: save it anew, or zip it with -0"
            raise InputError(self.path, member, "is compressed", hint)
        return info

    def _read(self, member: str, size: int) -> bytes:
        """Reads the first `size` bytes; the whole of it is compared with its CRC-32."""
        with self.archive.open(self._member(member)) as file:
            data = file.read(size)
        return data

    def _too_large(self, member: str, size: int, limit: str) -> InputError:
        hint = f"--limits.{limit}=N allows more"
        why = f"has {size} bytes, at most {getattr(LIMITS, limit)} are read"
        return InputError(self.path, member, why, hint)


def _array(tensor: Tensor, content: Mapping[str, bytes]) -> np.ndarray:
    """Looks at a tensor's numbers in what was read."""
    storage: Storage = tensor.storage
    if tensor.size == 0:
        return np.zeros(tensor.shape, storage.dtype)
    values = np.frombuffer(content[storage.member], storage.dtype, tensor.reach)
    # An axis of one step needs none, and may state one that is beyond any array.
    ones = zip(tensor.shape, tensor.strides, strict=True)
    steps = [0 if length == 1 else step * values.itemsize for length, step in ones]
    return np.lib.stride_tricks.as_strided(
        values[tensor.offset :], tensor.shape, steps, writeable=False
    )


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
    parts = [b"\x80\x02", _global(ORDERED), b")R("]
    for number, (name, array) in enumerate(arrays.items()):
        storage = b"(" + _text("storage") + _global(_NAMES[array.dtype.str])
        storage += _text(str(number)) + _text("cpu") + _whole(array.size) + b"tQ"
        strides = [step // array.itemsize for step in array.strides]
        place = _whole(0) + _tuple(array.shape) + _tuple(strides)
        parts += [_text(name), _global(TENSOR), b"(", storage, place]
        parts += [b"\x89", _global(ORDERED), b")R", b"tR"]
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
