"""Several processes, one per host or per device, that run the same program on one batch.

All of them compute, read and decide alike; the first alone writes and speaks.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from msi2he_jax.errors import InputError

_OF_PEERS = ("gloo", "nccl", "coordination service", "connection closed", "connection reset")


def join_processes(
    coordinator: str | None = None, count: int | None = None, index: int | None = None
) -> int:
    """Joins the processes of one computation; to be called before any other jax call.

    Args:
        coordinator: `HOST:PORT` of the first process; None where jax can tell (SLURM, Open MPI,
            Cloud TPU).
        count: Processes in all; None likewise.
        index: This one's number, from 0; None likewise.

    Returns:
        This process' number.

    Raises:
        InputError: the processes did not find each other, or jax cannot tell how to.
    """
    # Only what differs from host to host is not detected: on CPUs the collectives are gloo's.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(coordinator, count, index)
    except (RuntimeError, ValueError) as error:
        why = f"does not lead to {count or 'the other'} processes: {str(error).splitlines()[0]}"
        hint = "HOST:PORT,COUNT,INDEX; or auto under SLURM, Open MPI and on Cloud TPUs"
        raise InputError("--coordinator", "", why, hint) from error
    return jax.process_index()


def lost_peer(error: Exception) -> InputError | None:
    """Returns what to say where the error means that another process was lost, else None.

    Known by its words: jax raises RuntimeError in a step and ValueError where a step begins. Where
    the first process is lost, jax may end the others itself before it raises anything.
    """
    # Its callback for that, missed_heartbeat_callback, ends in std::bad_cast with jaxlib 0.10.2.
    if jax.process_count() == 1 or not any(word in str(error).lower() for word in _OF_PEERS):
        return None
    hint = "the same command continues from the last checkpoint"
    return InputError("--coordinator", "", "another process of this run was lost", hint)


def join(words: str) -> int:
    """Does the same from one word: `auto`, or `HOST:PORT,COUNT,INDEX`.

    Raises:
        InputError: neither, or the processes did not find each other.
    """
    if words == "auto":
        return join_processes()
    address, *numbers = words.split(",")
    if len(numbers) != 2 or not all(n.isdecimal() for n in numbers) or ":" not in address:
        why = f"is {words!r}, expected auto or HOST:PORT,COUNT,INDEX"
        raise InputError("--coordinator", "", why)
    count, index = map(int, numbers)
    if index >= count:
        why = f"is {words!r}: of {count} processes the last is number {count - 1}"
        raise InputError("--coordinator", "", why)
    return join_processes(address, count, index)


def end_alone(code: int) -> None:
    """Lets this process end with `code` when it is done: jax would wait for the others to end too.

    For where something failed here; the others hear of it from jax, within minutes, or from what
    started them all. One process alone ends as ever.
    """
    if jax.process_count() > 1:  # called before what jax has registered
        atexit.register(_end, code)


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_first() -> bool:
    """Returns whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


def of_first(values: np.ndarray) -> np.ndarray:
    """Returns the first process' numbers, `[...]`, so that all decide alike; all must call it."""
    if jax.process_count() == 1:
        return values
    return np.asarray(multihost_utils.broadcast_one_to_all(np.asarray(values)))


def any_signal(number: int | None) -> int | None:
    """Returns the highest signal that any process received, or None; all must call it."""
    if jax.process_count() == 1:
        return number
    found = multihost_utils.process_allgather(np.int32(number or 0))
    return int(np.max(found)) or None


@contextlib.contextmanager
def entered_by_first(context: contextlib.AbstractContextManager) -> Iterator[None]:
    """Enters a context in the first process; where that fails, none goes on. All must call it.

    Raises:
        InputError: the first process' own there, one that points to it elsewhere.
    """
    with contextlib.ExitStack() as stack:
        error = None
        if is_first():
            try:
                stack.enter_context(context)
            except InputError as found:
                error = found
        if of_first(np.int32(error is not None)):
            raise error or InputError("--coordinator", "", "the first process ended", "see there")
        yield


def wait(name: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def whole(batch: dict[str, jax.Array]) -> dict[str, jax.Array | np.ndarray]:
    """Returns a batch whose rows lie in several processes, `[B, ...]` each, in all of them."""
    if jax.process_count() == 1:
        return batch
    return multihost_utils.process_allgather(batch, tiled=True)
