"""A Dask cluster that loses workers or its scheduler, or differs from this process."""

import contextlib
import json
import operator
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from msi2he_jax.data import executors
from msi2he_jax.errors import InputError


def test_a_worker_that_dies_is_replaced_and_one_that_always_dies_is_named(scheduler, tmp_path):
    def die_once(path):
        import os
        import pathlib
        import signal

        if path == "always" or not pathlib.Path(path).exists():
            path != "always" and pathlib.Path(path).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return path

    with executors.open_map(scheduler=scheduler) as each:
        assert list(each(die_once, [str(tmp_path / "marker")])) == [str(tmp_path / "marker")]
    with pytest.raises(InputError) as caught, executors.open_map(scheduler=scheduler) as each:
        list(each(die_once, ["always"]))
    message = str(caught.value)
    assert "ended 2 workers, perhaps for want of memory" in message
    assert message.startswith(f"{scheduler}: worker: ") and "what was finished is kept" in message


def test_workers_that_differ_or_see_other_files_are_refused(scheduler, tmp_path):
    versions = {"numpy": np.__version__}

    def here():
        return versions

    with executors.open_map(scheduler=scheduler, software=here, folder=tmp_path):
        pass
    pid = os.getpid()

    def elsewhere():
        import os

        return {"numpy": "9.9" if os.getpid() == pid else "1.0"}

    for software, folder, words in (
        (elsewhere, tmp_path, r"worker tcp://.*: has numpy 1\.0, this process 9\.9"),
        (here, tmp_path / "absent", r"does not see .*absent \(files and --out must lie on storage"),
        (_only_here, tmp_path, r"cannot load msi2he_jax: .*No module named 'no_such_package'"),
    ):
        options = {"software": software, "folder": folder}
        with (
            pytest.raises(InputError, match=words),
            executors.open_map(scheduler=scheduler, **options),
        ):
            pass


@pytest.fixture
def cluster(dask_process):
    """Starts a scheduler of its own with one worker: its address and the two processes."""
    return contextlib.contextmanager(lambda folder: _cluster(dask_process, folder))


def _cluster(process, folder):
    file, local = f"--scheduler-file={folder / 's.json'}", ["--host=127.0.0.1", "--no-dashboard"]
    words = ["scheduler", file, *local, "--port=0", "--dashboard-address=:0"]
    worker = ["worker", file, *local, "--nthreads=1", "--no-nanny"]
    with (
        process(*words, log=folder / "scheduler.log") as scheduler,
        process(*worker, f"--local-directory={folder}", log=folder / "worker.log") as one,
    ):
        while not (folder / "s.json").is_file() or not (folder / "s.json").read_text():
            time.sleep(0.05)
        yield json.loads((folder / "s.json").read_text())["address"], scheduler, one


def test_the_last_worker_that_dies_is_noticed(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "LOOK_S", 0.2)
    said = []
    with (
        cluster(tmp_path) as (address, _, worker),
        pytest.raises(InputError) as caught,
        executors.open_map(scheduler=address, on_wait=said.append) as each,
    ):
        results = each(operator.neg, range(100))
        assert next(results) == 0
        monkeypatch.setattr(executors, "WORKERS_S", 1.0)
        worker.kill()
        list(results)
    assert said == [f"{address}: no worker is left; one is waited for, 1 s at most"]
    assert str(caught.value).startswith(f"{address}: workers: none for 1 s (start some with: ")


LOST = """
import sys, time
from msi2he_jax.data import executors
from msi2he_jax.errors import InputError
try:
    with executors.open_map(scheduler=sys.argv[1]) as each:
        results = each(time.sleep, [0] + [60] * 8)
        next(results)
        print("working", flush=True)
        list(results)
except InputError as error:
    print(error)
"""


def test_a_scheduler_that_dies_is_one_line_and_nothing_else(cluster, tmp_path):
    with cluster(tmp_path) as (address, scheduler, worker):
        command = [sys.executable, "-c", LOST, address]
        with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as client:
            assert client.stdout.readline() == "working\n"
            scheduler.kill()
            worker.kill()
            out, err = client.communicate(timeout=60)
    said = f"{address}: scheduler: was lost (the same command continues once it is back)\n"
    assert (out, err) == (said, "")


class _OnlyHere:
    """What cannot be loaded in another process, as a package that is not installed there."""

    def __call__(self):
        return {}

    def __reduce__(self):
        return __import__, ("no_such_package",)


_only_here = _OnlyHere()
