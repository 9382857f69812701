"""A checkpoint made by someone who means harm, and who renewed its hashes: refused in one line."""

import json
import pathlib
import shutil

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorstore

from msi2he_jax.errors import InputError
from msi2he_jax.io_safety import HASHES, changed_limits, write_hashes
from msi2he_jax.training import checkpoint, stored_arrays
from msi2he_jax.training.state import Network, TrainState

SGD = optax.sgd(1.0)


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A run's folder with one step of a few numbers."""
    run, zero = tmp_path_factory.mktemp("saved"), jnp.zeros((), jnp.int32)
    weights = {"a": jnp.arange(192.0).reshape(64, 3)}
    network = Network(weights, {}, SGD.init(weights))
    with checkpoint.managers(run) as managers:
        state = TrainState(jnp.int32(3), zero, zero, network, None, None)
        checkpoint.save(managers["latest"], state, {})
    return run


@pytest.fixture
def step(saved, tmp_path):
    return (
        pathlib.Path(shutil.copytree(saved / "checkpoints" / "latest", tmp_path / "latest")) / "3"
    )


def refused(step: pathlib.Path, renew: bool = True) -> str:
    """Renews the hashes, reads, and returns the one line."""
    if renew:
        write_hashes(step)
    with pytest.raises(InputError) as caught:
        checkpoint.read_newest(step.parent)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def database(step: pathlib.Path) -> tensorstore.KvStore:
    spec = {"driver": "ocdbt", "base": f"file://{step / 'state'}/"}
    return tensorstore.KvStore.open(spec).result()


def test_hashes_are_compared_before_anything_is_parsed(step, monkeypatch):
    monkeypatch.setattr(stored_arrays, "describe", pytest.fail)
    path = step / "state" / "manifest.ocdbt"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "manifest.ocdbt: differs from its SHA-256" in refused(step, renew=False)


def test_what_orbax_says_of_itself_is_not_read(step):
    for name in ("_CHECKPOINT_METADATA", "state/_METADATA"):
        (step / name).write_text('{"use_zarr3": true, "tree_metadata": {"x": "gs://a/b"}')
    (step / "state" / "_sharding").write_bytes(b"\x00")
    write_hashes(step)
    assert checkpoint.read_newest(step.parent)[0].step == 3


def test_a_file_that_is_not_listed(step):
    (step / "state" / "zarr.json").write_text("{}")
    assert f"state/zarr.json: is not listed in {HASHES}" in refused(step, renew=False)


@pytest.mark.parametrize("place", ["state/d/link", "link"])
def test_a_link_inside(step, tmp_path, place):
    (tmp_path / "secret").write_text("secret")
    (step / place).symlink_to(tmp_path / "secret")
    assert "is a link or a special file" in refused(step)


def test_a_folder_behind_a_link(step, tmp_path):
    shutil.move(step / "state" / "d", tmp_path / "d")
    (step / "state" / "d").symlink_to(tmp_path / "d")
    assert "is a link or a special file" in refused(step)


def test_a_step_without_hashes_is_told_of(step):
    (step / HASHES).unlink()
    found, told = checkpoint.read_newest(step.parent)
    assert found.step == 3 and len(told) == 1 and f"has no {HASHES}" in told[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shape", [2**40, 3]),
        ("shape", [-64, 3]),
        ("shape", "64"),
        ("chunks", [1, 1]),
        ("dtype", "|O"),
        ("dtype", ["<f4"]),
        ("compressor", {"id": "blosc"}),
        ("filters", [{"id": "x"}]),
        ("fill_value", 1),
        ("order", "F"),
        ("zarr_format", 2.0),
    ],
)
def test_a_header_says_nothing_that_we_do_not_write(step, key, value):
    store, name = database(step), "generator.params.a/.zarray"
    header = {**json.loads(store.read(name).result().value), key: value}
    store.write(name, json.dumps(header)).result()
    assert ".zarray" in refused(step)


def test_shapes_are_bounded_together(step):
    """And told before memory is asked for: the array is declared with its chunk, of 4 TiB."""
    store, name = database(step), "generator.params.a/.zarray"
    header = json.loads(store.read(name).result().value)
    store.write(name, json.dumps({**header, "shape": [2**40], "chunks": [2**40]})).result()
    store.write(
        "generator.params.a/0", store.read("generator.params.a/0.0").result().value
    ).result()
    store.write("generator.params.a/0.0", None).result()
    assert "more than 4294967296" in refused(step)


def test_shapes_are_compared_before_arrays_are_read(step, monkeypatch):
    monkeypatch.setattr(stored_arrays, "read", pytest.fail)

    def fits(outline):
        checkpoint.fill({"a": jnp.zeros((64, 4))}, outline.arrays, "generator.params")

    with pytest.raises(InputError, match=r"has float32 \[64, 3\].*asks for float32 \[64, 4\]"):
        checkpoint.read_newest(step.parent, fits)


@pytest.mark.parametrize("key", ["../x/.zarray", "/etc/passwd", "generator.params.a/1.0", "x"])
def test_a_key_that_we_do_not_write(step, key):
    database(step).write(key, b"{}").result()
    assert refused(step)


def test_limits(step):
    with changed_limits(folder_bytes=100):
        assert "--limits.folder_bytes=" in refused(step)
    with changed_limits(tensor_bytes=100):
        assert "--limits.tensor_bytes=" in refused(step)


CHECKSUM = [0] * 256  # CRC-32C, byte by byte.
for number in range(256):
    CHECKSUM[number] = number
    for _ in range(8):
        CHECKSUM[number] = (CHECKSUM[number] >> 1) ^ (0x82F63B78 if CHECKSUM[number] & 1 else 0)


def crc32c(content: bytes) -> bytes:
    total = 0xFFFFFFFF
    for byte in content:
        total = (total >> 8) ^ CHECKSUM[(total ^ byte) & 0xFF]
    return (total ^ 0xFFFFFFFF).to_bytes(4, "little")


@pytest.mark.parametrize("where", ["../../", "/tmp/x"])
def test_a_database_that_points_outside(step, tmp_path, where):
    """The root names a file of nodes; renamed with a valid checksum, it may lie anywhere."""
    state = step / "state"
    shutil.rmtree(state)
    spec = {"driver": "ocdbt", "base": f"file://{state}/", "config": {"compression": None}}
    tensorstore.KvStore.open(spec).result().write("x" * 200, b"y" * 200).result()
    (node,) = (state / "d").iterdir()
    name = f"d/{node.name}"
    elsewhere = where + "d" * (len(name) - len(where))
    manifest = (state / "manifest.ocdbt").read_bytes()
    assert manifest.count(name.encode()) == 1
    changed = manifest[:-4].replace(name.encode(), elsewhere.encode())
    (state / "manifest.ocdbt").write_bytes(changed + crc32c(changed))
    if where == "../../":
        shutil.move(node, step.parent / elsewhere.removeprefix(where))
    assert "Invalid key" in refused(step)


def test_a_node_that_unpacks_to_more_than_we_write(step):
    """40 kB of it would become a GB: found by counting its blocks, and nothing is unpacked."""
    shutil.rmtree(step / "state")
    config = {"max_inline_value_bytes": 2**20, "max_decoded_node_bytes": 2**31 - 1}
    spec = {"driver": "ocdbt", "base": f"file://{step / 'state'}/", "config": config}
    store = tensorstore.KvStore.open(spec).result()
    transaction = tensorstore.Transaction(atomic=True)
    for index in range(20):
        store.with_transaction(transaction).write(f"{index}", bytes(2**20)).result()
    transaction.commit_async().result()
    assert "unpacks to more than a checkpoint has" in refused(step)


def kilobytes(name: str) -> int:
    """`VmHWM`, the most memory since the last reset, or `VmRSS`, the memory now."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_is_bounded(step):
    """A chunk that unpacks to 128 MiB beside a header of 768 bytes is unpacked no further."""
    size = 2**27
    codec = {"compressor": {"id": "zstd", "level": 1}}
    metadata = {"shape": [size], "chunks": [size], "dtype": "|u1", **codec}
    spec = {"driver": "zarr", "kvstore": "memory://", "metadata": metadata}
    array = tensorstore.open(spec, create=True).result()
    array.write(np.ones(size, np.uint8)).result()
    bomb = array.kvstore.read("0").result().value
    database(step).write("generator.params.a/0.0", bomb).result()
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes("VmRSS")
    assert "End of data expected" in refused(step)
    assert (kilobytes("VmHWM") - before) * 1024 < size / 4
