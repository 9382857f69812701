"""Bundles from elsewhere: whatever was changed, one line, and no program but a generator's."""

import dataclasses
import json
import random
import types
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from msi2he_jax.errors import InputError
from msi2he_jax.interop import bundle, bundle_reading
from msi2he_jax.io_safety import changed_limits

KERNEL = np.arange(12, dtype=np.float32).reshape(4, 3) / 12


class _Config(dict):
    def to_dict(self):
        return dict(self)


def _model(apply):
    scaling = {"transform": "sqrt", "percentile": 99.9, "scale": [1.0] * 4}
    return types.SimpleNamespace(
        apply=apply,
        config=_Config(),
        provenance={"peaks": {"mz": [1.0, 2.0, 3.0, 4.0]}, "scaling": scaling},
        channels=4,
        norm="batch",
        dropout=False,
        step=3,
        which="best",
        run_dir="run",
    )


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "g.zip"
    bundle.write_bundle(path, _model(lambda msi: jnp.tanh(msi @ KERNEL)), size_px=(8, 9))
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def put(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def refused(path) -> str:
    with pytest.raises(InputError) as caught:
        bundle_reading.read_bundle(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bundle_is_read(members, tmp_path):
    draw, sheet = bundle_reading.read_bundle(put(tmp_path / "g.zip", members))
    msi = np.random.default_rng(0).random((2, 8, 9, 4), np.float32)
    np.testing.assert_allclose(draw(msi), np.tanh(msi @ KERNEL), rtol=1e-5)
    assert sheet["step"] == 3


@pytest.mark.parametrize("name", ["../x", "/etc/x", "y"])
def test_another_member(members, tmp_path, name):
    assert "holds other files" in refused(put(tmp_path / "g.zip", {**members, name: b""}))


def test_a_member_that_is_there_twice(members, tmp_path):
    path = put(tmp_path / "g.zip", members)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(bundle.SHEET, members[bundle.SHEET])
    assert "holds other files" in refused(path)


def test_members_are_bounded_before_they_are_unpacked(members, tmp_path, monkeypatch):
    path = put(tmp_path / "g.zip", {**members, "config.json": bytes(2**26)})
    monkeypatch.setattr(zipfile.ZipFile, "read", pytest.fail)
    assert "config.json: has 67108864 bytes" in refused(path)
    with changed_limits(tensor_bytes=10):
        assert "--limits.tensor_bytes" in refused(put(tmp_path / "g.zip", members))


@pytest.mark.parametrize(
    "change",
    [
        lambda sheet: sheet.update(format="x"),
        lambda sheet: sheet.update(step=-1),
        lambda sheet: sheet.update(platforms="cpu"),
        lambda sheet: sheet["input"].update(shape=["b", 8, 10, 4]),
        lambda sheet: sheet["input"].update(shape=["b", 8]),
        lambda sheet: sheet["output"].update(shape=["b", 8, 9, 4]),
        lambda sheet: sheet["input"]["scaling"].update(scale=[1.0]),
    ],
)
def test_the_sheet_is_checked(members, tmp_path, change):
    sheet = json.loads(members[bundle.SHEET])
    change(sheet)
    assert refused(put(tmp_path / "g.zip", {**members, bundle.SHEET: json.dumps(sheet)}))


def _export(apply, *shape):
    allowed = [jax.export.DisabledSafetyCheck.custom_call("msi2he_harm")]
    return jax.export.export(jax.jit(apply), disabled_checks=allowed)(
        jax.ShapeDtypeStruct(shape, jnp.float32)
    )


def test_a_program_with_fewer_checks(members, tmp_path):
    count = jax.export.symbolic_shape("b")[0]
    program = _export(lambda msi: jnp.tanh(msi @ KERNEL), count, 8, 9, 4)
    changed = {**members, bundle.PROGRAM: bytes(program.serialize())}
    assert "fewer checks" in refused(put(tmp_path / "g.zip", changed))


def test_a_program_that_calls_code_of_the_machine(members, tmp_path, monkeypatch):
    shape = (jax.export.symbolic_shape("b")[0], 8, 9)

    def harm(msi):
        return jax.ffi.ffi_call("msi2he_harm", jax.ShapeDtypeStruct((*shape, 3), jnp.float32))(msi)

    program = bytes(_export(harm, *shape, 4).serialize())
    deserialize = jax.export.deserialize

    def unchecked(content):
        return dataclasses.replace(deserialize(content), disabled_safety_checks=())

    monkeypatch.setattr(jax.export, "deserialize", unchecked)
    path = put(tmp_path / "g.zip", {**members, bundle.PROGRAM: program})
    assert 'custom_call "msi2he_harm" is in no generator' in refused(path)


def test_damage_is_one_line(members, tmp_path, capfd):
    """Bytes of the zip or, with the zip whole, of the program or the sheet."""
    draw, path, results = random.Random(0), tmp_path / "g.zip", {"refused": 0, "read": 0}
    whole = put(path, members).read_bytes()
    for number in range(200):
        mutate(path, draw, members, whole)
        try:
            bundle_reading.read_bundle(path)
            results["read"] += 1
        except InputError as error:
            assert "\n" not in str(error), number
            results["refused"] += 1
    assert results["refused"] > 100
    assert capfd.readouterr().err == ""


def mutate(path, draw, members, whole):
    """Writes a bundle of which a few bytes are changed, inserted or cut off."""
    name = draw.choice([None, None, bundle.SHEET, bundle.SHEET, bundle.PROGRAM])
    content = bytearray(members[name] if name else whole)
    for _ in range(draw.choice([1, 1, 1, 3, 10])):
        kind, place = draw.randrange(8), draw.randrange(len(content))
        if kind == 0:
            del content[place:]
        elif kind == 1:
            content[place:place] = draw.randbytes(draw.randrange(1, 9))
        else:
            content[place] = draw.choice([0, 1, 127, 255, content[place] ^ 1 << draw.randrange(8)])
        if not content:
            break
    if name:
        put(path, {**members, name: bytes(content)}, zipfile.ZIP_STORED)
    else:
        path.write_bytes(content)
