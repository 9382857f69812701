"""An ordered map over pieces of work: in this process, on a pool of processes, or on a cluster.

A `Map` is called as `map(function, items)` and yields the results in the order of the items. No
more than a few items a worker are under way at a time; where the caller stops, the rest are
cancelled.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import functools
import importlib.util
import itertools
import logging
import multiprocessing
import os
import re
import signal
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from msi2he_jax.errors import InputError

Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
CONNECT_S = 10.0
WORKERS_S = 120.0
LOOK_S = 5.0  # between two looks whether there are workers
ANSWER_S = 60.0
_PER_WORKER = 4


def open_map(workers: int = 1, scheduler: str | None = None, **cluster: Any):
    """Chooses a map.

    Args:
        workers: Processes of a pool; 1 works in this process.
        scheduler: Address of a Dask scheduler, whose workers do the work instead; None for none.
        cluster: Options of `dask_cluster`.

    Returns:
        A context manager that yields the `Map`.
    """
    if scheduler:
        return dask_cluster(scheduler, **cluster)
    return in_process() if workers == 1 else process_pool(workers)


@contextlib.contextmanager
def in_process() -> Iterator[Map]:
    """Yields a map that works in this process, one item when it is asked for."""

    def in_order(function: Callable, items: Sequence) -> Iterator:
        yield from map(function, items)

    yield in_order


@contextlib.contextmanager
def process_pool(workers: int) -> Iterator[Map]:
    """Yields a map over processes of this computer, each started afresh.

    Args:
        workers: How many.

    Raises:
        InputError: from the map, where a process was killed.
    """
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    others = set(active_children())
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_follow_parent)
    try:
        result = concurrent.futures.Future.result
        yield functools.partial(_in_order, pool.submit, lambda: workers, _cancel_each, result)
        pool.shutdown()
    except BrokenProcessPool as error:
        why = "one of the processes was ended by the system, perhaps for want of memory"
        raise InputError("--workers", "", why, "try fewer; what was finished is kept") from error
    finally:
        for process in set(active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Lets a process of the pool end in silence when its parent does, which says what is to say.

    A closed terminal tells all processes; the parent ends the others, which must not be first. A
    parent that was killed ends nobody: its end of a pipe is closed, which is waited for here.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _cancel_each(futures: Iterable) -> None:
    for future in futures:
        future.cancel()


def _in_order(
    submit: Callable[[Callable, Any], Any],
    workers: Callable[[], int],
    cancel: Callable[[list], None],
    result: Callable[[Any], Any],
    function: Callable,
    items: Sequence,
) -> Iterator:
    """Keeps a few items a worker under way and yields results in the order of the items."""
    waiting: collections.deque = collections.deque()
    remaining = iter(items)
    try:
        while True:
            room = max(1, _PER_WORKER * workers()) - len(waiting)
            waiting.extend(submit(function, item) for item in itertools.islice(remaining, room))
            if not waiting:
                return
            yield result(waiting[0])
            waiting.popleft()  # The last reference: a cluster may now forget the result.
    finally:
        cancel(list(waiting))


@contextlib.contextmanager
def dask_cluster(
    address: str,
    *,
    folder: Path | None = None,
    software: Callable[[], dict] = dict,
    on_wait: Callable[[str], None] = lambda words: None,
) -> Iterator[Map]:
    """Yields a map over the workers of a running Dask cluster.

    Args:
        address: The scheduler's, as tcp://host:8786.
        folder: One that workers must see under the same path; None for none.
        software: Returns versions by name; all workers' must equal this process'.
        on_wait: Is told where no worker is left.

    Raises:
        InputError: no such scheduler, no workers, workers that differ or cannot see the folder; or
            from the map, where the cluster is lost or an item has ended several workers.
    """
    with _quiet("distributed"), _connected(address) as client:
        _check_workers(client, address, folder, software)

        def submit(function: Callable, item: Any):
            name = f"{getattr(item, 'stage', 'item')}-{uuid.uuid4().hex}"
            return client.submit(function, item, key=name, pure=False)

        with _said_plainly(address):
            count = functools.partial(_count_threads, client, address)
            result = functools.partial(_wait_for, count, address, on_wait)
            forget = functools.partial(_forget, client)
            yield functools.partial(_in_order, submit, count, forget, result)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    client = _connect(address)
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):
            client.close(timeout=5)


@contextlib.contextmanager
def _quiet(package: str) -> Iterator[None]:
    """Keeps a package's pages of tracebacks off the terminal; what they mean is said in a line."""
    importlib.util.find_spec(package) and importlib.import_module(package)
    names = [name for name in logging.root.manager.loggerDict if name.startswith(package)]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _wait_for(
    count: Callable[[], int], address: str, on_wait: Callable[[str], None], future: Any
) -> Any:
    """Returns a result, waited for as long as there are workers, or one may come back."""
    alone_since = None
    while True:
        try:
            return future.result(timeout=LOOK_S)
        except TimeoutError:
            # It may have ended since: only a fault of its own ends the waiting.
            if future.status == "error":
                return future.result()
        now = time.monotonic()
        if count():
            alone_since = None
        elif alone_since is None:
            alone_since = now
            on_wait(f"{address}: no worker is left; one is waited for, {WORKERS_S:g} s at most")
        elif now - alone_since > WORKERS_S:
            hint = (
                f"start some with: dask worker {address} --nthreads 1; the same command continues"
            )
            raise InputError(address, "workers", f"none for {WORKERS_S:g} s", hint)


def _connect(address: str):
    try:
        from distributed import Client
    except ImportError:
        hint = "pip install 'msi2he_jax[dask]'"
        raise InputError("--scheduler", "", "needs the package distributed", hint) from None
    hint = "start it with: dask scheduler, and write its address as tcp://host:8786"
    if not re.fullmatch(r"\w+://.+:\d+", address):
        raise InputError(address, "scheduler", "is not an address", hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Versions are compared below, and differences named.
            return Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        why = f"cannot be reached within {CONNECT_S:g} s"
        raise InputError(address, "scheduler", why, hint) from error


def _check_workers(client, address: str, folder: Path | None, software: Callable) -> None:
    """Refuses, before any work, workers that would fail or give other numbers."""
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError:
        hint = f"start some with: dask worker {address} --nthreads 1"
        raise InputError(address, "workers", f"none within {WORKERS_S:g} s", hint) from None
    look = functools.partial(_look_around, software, None if folder is None else str(folder))
    for worker, found in client.run(look, on_error="return").items():
        _check_found(address, f"worker {worker}", found, software(), folder)
    try:
        client.run_on_scheduler(look)
    except Exception as error:
        _check_found(address, "scheduler", error, {}, None)


def _check_found(address: str, who: str, found: Any, here: dict, folder: Path | None) -> None:
    if isinstance(found, Exception):
        hint = "install the same environment on scheduler and workers"
        raise InputError(address, who, f"cannot load msi2he_jax: {found}", hint)
    versions, sees_folder = found
    for name in sorted(here.keys() | versions.keys()):
        ours, theirs = here.get(name), versions.get(name)
        if ours != theirs:
            why = f"has {name} {_short(theirs)}, this process {_short(ours)}"
            raise InputError(address, who, why, "install the same everywhere")
    if not sees_folder:
        hint = "files and --out must lie on storage that all share, under the same paths"
        raise InputError(address, who, f"does not see {folder}", hint)


def _look_around(software: Callable, folder: str | None) -> tuple[dict, bool]:
    return software(), folder is None or Path(folder).is_dir()


def _short(version: str | None) -> str:
    return "none" if version is None else version[:12]


def _forget(client, futures: list) -> None:
    """Cancels what is not done; where the client has ended already, that has been done with it."""
    with contextlib.suppress(Exception):
        client.cancel(futures)


def _count_threads(client, address: str) -> int:
    try:
        return sum(client.nthreads(callback_timeout=ANSWER_S).values())
    except (TimeoutError, OSError) as error:
        raise _lost(address) from error


def _lost(address: str) -> InputError:
    hint = "the same command continues once it is back"
    return InputError(address, "scheduler", "was lost", hint)


@contextlib.contextmanager
def _said_plainly(address: str) -> Iterator[None]:
    """Turns what Dask raises when a cluster fails into one line each."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        why = f"{error.task} ended {error.allowed_failures + 1} workers, perhaps for want of memory"
        hint = "give workers more; what was finished is kept"
        raise InputError(address, "worker", why, hint) from error
    except (CancelledError, CommClosedError) as error:
        raise _lost(address) from error
