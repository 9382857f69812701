"""Shared by the tests of data: a tiny simulated cohort, and the examples of a small data set."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest

from msi2he_jax import preprocess, simulate


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """The manifest of six simulated sections of three patients, 24 pixels a side."""
    folder = tmp_path_factory.mktemp("cohort")
    flags = [f"--out={folder}", "--sections=6", "--grid=24", "--histology-um-per-px=12.5"]
    assert simulate.main([*flags, "--seed=3"]) == 0
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def pairs(cohort, tmp_path_factory):
    """The data set made of that cohort with 10 peaks."""
    out = tmp_path_factory.mktemp("data") / "pairs"
    assert preprocess.main([f"--manifest={cohort}", f"--out={out}", "--peaks=10"]) == 0
    return out


@pytest.fixture
def make_example():
    """Makes an example of random content: make_example(number, height, width, channels)."""

    def make(number, height=10, width=12, channels=4):
        rng = np.random.default_rng(number)
        return {
            "sample_id": f"s{number}",
            "group_id": f"g{number}",
            "msi": rng.random((height, width, channels), np.float32),
            "histology": rng.integers(0, 256, (height, width, 3), np.uint8),
            "view": rng.integers(0, 256, (height, width, 3), np.uint8),
            "msi_mask": rng.random((height, width)) < 0.7,
            "tissue_mask": rng.random((height, width)) < 0.6,
            "msi_to_histology": rng.random((3, 3)),
            "um_per_px": 12.5 + number,
        }

    return make


@pytest.fixture
def provenance(make_provenance):
    """A provenance with just what writing and loading need, for 4 channels."""
    return make_provenance(4)


@contextlib.contextmanager
def _process(*words, log):
    """A process of the cluster, ended and waited for whatever happens."""
    failures = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
    with open(log, "w") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words],
            stdout=handle,
            stderr=subprocess.STDOUT,
            env=os.environ | failures,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def dask_process():
    """Starts a process of a Dask cluster: dask_process(*words, log)."""
    return _process


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of a Dask scheduler on this computer with two workers."""
    folder = tmp_path_factory.mktemp("dask")
    file = f"--scheduler-file={folder / 'scheduler.json'}"
    local = ["--host=127.0.0.1", "--no-dashboard"]
    worker = ["worker", file, *local, "--nthreads=1", f"--local-directory={folder}"]
    with contextlib.ExitStack() as stack:
        words = ["scheduler", file, *local, "--port=0", "--dashboard-address=:0"]
        stack.enter_context(_process(*words, log=folder / "scheduler.log"))
        for name in ("one", "two"):
            stack.enter_context(_process(*worker, log=folder / f"{name}.log"))
        from distributed import Client

        with Client(scheduler_file=folder / "scheduler.json", timeout=30) as client:
            client.wait_for_workers(2, timeout=30)
            address = client.scheduler.address
        yield address
