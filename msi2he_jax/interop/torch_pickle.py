"""The pickle of a PyTorch checkpoint as a description of its tensors; nothing in it is run.

Unpickling runs whatever the file asks for. Here the instructions are walked by a machine that
knows the few that a `state_dict` needs, and calls nothing: anything else is refused. Work and
memory are bounded by `LIMITS`, and no value of the file but text and numbers is ever hashed,
compared or printed: nested tuples could make each of these endless.
"""

from __future__ import annotations

import dataclasses
import pickletools
from typing import Any

from msi2he_jax.io_safety import LIMITS

STORAGES = {
    "torch FloatStorage": "<f4",
    "torch DoubleStorage": "<f8",
    "torch HalfStorage": "<f2",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
}
TENSOR, ORDERED = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"
PARAMETER = "torch._utils _rebuild_parameter"
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "BINFLOAT")
_MOST_AXES = 32
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list}


class Refused(ValueError):
    """The pickle holds what no plain `state_dict` has; says what, after "holds"."""


@dataclasses.dataclass(frozen=True)
class Storage:
    """Numbers of one type in a row.

    Attributes:
        member: Name of their file, below the archive's root.
        dtype: As NumPy spells it, such as `<f4`.
    """

    member: str
    dtype: str


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor, whose numbers are still in the file.

    Attributes:
        storage: Where they lie.
        offset: Index of the first.
        shape: Lengths of the axes.
        strides: Step along each axis, in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def reach(self) -> int:
        """How many numbers of the storage are needed, from its beginning."""
        if 0 in self.shape:
            return 0
        steps = zip(self.shape, self.strides, strict=True)
        return self.offset + sum((length - 1) * step for length, step in steps) + 1

    @property
    def size(self) -> int:
        """How many numbers it has."""
        product = 1
        for length in self.shape:
            product *= length
        return product


class _Name(str):
    """The name of a global; never looked up."""


class _Tuple(tuple):
    """A tuple that knows how deep it nests."""

    depth: int


def read_pickle(data: bytes) -> dict[Any, Any]:
    """Walks a pickle.

    Args:
        data: Its bytes, at most `LIMITS.pickle_bytes`.

    Returns:
        What the pickle's dictionary holds: tensors as `Tensor`, anything else as it came.

    Raises:
        Refused: it holds anything that no plain `state_dict` has, or more than the limits allow.
        ValueError, LookupError, TypeError: it is damaged.
    """
    machine = _Machine()
    for number, (opcode, value, _) in enumerate(pickletools.genops(data)):
        if number >= LIMITS.pickle_steps:
            raise Refused(f"more than {LIMITS.pickle_steps} instructions")
        machine.step(opcode.name, value)
    return machine.result()


class _Machine:
    """Walks instructions one by one."""

    def __init__(self):
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # Stacks set aside at each mark.
        self.memo: dict[int, Any] = {}

    def result(self) -> dict[Any, Any]:
        """Returns what is left on the stack in the end."""
        if self.below or len(self.stack) != 1 or not isinstance(self.stack[0], dict):
            raise Refused("something other than a state_dict")
        return self.stack[0]

    def step(self, name: str, value: Any) -> None:
        """Follows one instruction."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _NUMBERS:
            self.stack.append(value)
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name == "GLOBAL":
            self.stack.append(_Name(value))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[value] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[value])
        elif name == "MARK":
            self.below.append(self.stack)
            self.stack = []
        elif name not in ("PROTO", "STOP", "FRAME"):
            self._combine(name)

    def _combine(self, name: str) -> None:
        """The instructions that take values off the stack."""
        if name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE"):
            counts = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
            items = self._pop(counts[name]) if name in counts else self._mark()
            self.stack.append(_nested(items))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._mark() if name == "SETITEMS" else self._pop(2)
            self._set_items(items)
        elif name == "BINPERSID":
            self.stack.append(_storage(self.stack.pop()))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            self.stack.append(_call(function, arguments))
        elif name == "BUILD":
            self.stack.pop()  # Attributes of the mapping, such as layer versions: not needed.
        else:
            raise Refused(f"the instruction {name}")

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("an instruction lacks its values")
        start = len(self.stack) - count
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _mark(self) -> list[Any]:
        """Takes what was put there since the last mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def _set_items(self, items: list[Any]) -> None:
        keys, target = items[::2], self.stack[-1]
        if not isinstance(target, dict) or any(type(key) not in (str, int) for key in keys):
            raise Refused("a mapping whose keys are not text")
        target.update(zip(keys, items[1::2], strict=True))


def _nested(items: list[Any]) -> _Tuple:
    made = _Tuple(items)
    made.depth = 1 + max((item.depth for item in items if isinstance(item, _Tuple)), default=0)
    if made.depth > LIMITS.pickle_depth:
        raise Refused(f"tuples nested more than {LIMITS.pickle_depth} deep")
    return made


def _call(function: Any, arguments: Any) -> Any:
    if isinstance(function, _Name) and isinstance(arguments, _Tuple):
        first = arguments[0] if arguments else None
        if function == ORDERED and not arguments:
            return {}
        if function == PARAMETER and isinstance(first, Tensor):
            return first
        if function == TENSOR and isinstance(first, Storage):
            return _tensor(*arguments[:4])
    raise Refused(f"a call of {function if isinstance(function, _Name) else 'no function'}")


def _storage(key: Any) -> Storage:
    kind, storage, name = key[:3] if isinstance(key, _Tuple) else (None,) * 3
    known = isinstance(storage, _Name) and storage in STORAGES
    if not (type(kind) is type(name) is str and kind == "storage" and known and name.isalnum()):
        raise Refused(f"numbers of type {storage if isinstance(storage, _Name) else 'unknown'}")
    return Storage(f"data/{name}", STORAGES[storage])


def _tensor(storage: Storage, offset: Any, shape: Any, strides: Any) -> Tensor:
    """Checks that a tensor has no more numbers than the stretch of the storage that it spans."""
    whole = isinstance(shape, _Tuple) and isinstance(strides, _Tuple)
    whole = whole and all(type(number) is int for number in (offset, *shape, *strides))
    if not whole or len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise Refused("a tensor without whole numbers as its shape and strides")
    if len(shape) > _MOST_AXES:
        raise Refused(f"a tensor of {len(shape)} axes")
    tensor = Tensor(storage, offset, tuple(shape), tuple(strides))
    if tensor.size > max(0, tensor.reach - offset):
        raise Refused("a tensor that uses its numbers several times: save tensor.contiguous()")
    return tensor
