"""Two processes that share a batch give the gradient of one: all together, on this machine."""

import os
import socket
import subprocess
import sys

import jax
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.training import parallel
from tests.training.test_parallel import PROGRAM

# The same gradients as between devices, but that the devices are four in each of two processes.
JOIN = """
import sys
from msi2he_jax.training import parallel
assert parallel.join_processes(sys.argv[1], 2, int(sys.argv[2])) == int(sys.argv[2])
"""
PLACES = {
    "jax.devices()[:1]": "jax.local_devices()[:1]",
    'for mode in ("jit", "pmap"):': 'for mode in ("jit",):',
}


def _program() -> str:
    program = PROGRAM
    for old, new in PLACES.items():
        assert old in program
        program = program.replace(old, new)
    return JOIN + program


def test_two_processes_give_the_gradient_of_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", _program(), address]
    both = [
        subprocess.Popen([*command, str(index)], env=os.environ | flags, **pipes)
        for index in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=240) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said
    assert [out.splitlines()[-1] for out, _ in said] == ["jit agrees"] * 2  # gloo talks before


def test_pmap_is_for_one_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(InputError, match=r"is pmap, which shares .* not between 2"):
        parallel.choose_devices("pmap", 8)


def test_a_process_that_cannot_join_says_so(monkeypatch):
    def refuse(*_):
        raise ValueError("coordinator_address should be defined.\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", refuse)
    with pytest.raises(InputError, match="the other processes: coordinator_address should"):
        parallel.join_processes()
