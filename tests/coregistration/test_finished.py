"""What decides whether a finished section of an earlier run is taken."""

import dataclasses
import json
import os
import types

import pytest

from msi2he_jax import config, locking, register
from msi2he_jax.coregistration.finished import Finished, finished_sections, section_key
from msi2he_jax.data.manifest import Sample
from msi2he_jax.errors import InputError


@pytest.fixture
def sample(tmp_path):
    for name in ("a.imzML", "a.IBD", "a.png"):
        (tmp_path / name).write_bytes(b"x")
    return Sample("a", "g", tmp_path / "a.imzML", tmp_path / "a.png", None)


def test_another_ibd_is_another_section(sample, tmp_path):
    """However its suffix is spelt."""
    before = section_key(sample, {}, None, [])
    (tmp_path / "a.IBD").write_bytes(b"longer")
    assert section_key(sample, {}, None, []) != before
    with pytest.raises(InputError):
        section_key(dataclasses.replace(sample, imzml=tmp_path / "b.imzML"), {}, None, [])


@pytest.fixture
def model(tmp_path):
    """What a key asks of a model, whose checkpoint is three files."""
    step = tmp_path / "run" / "checkpoints" / "best" / "7"
    (step / "notes").mkdir(parents=True)
    (step / "notes" / "metadata").write_text("{}")
    (tmp_path / "run" / "provenance.json").write_text("{}")
    facts = {"config": config.default_config(), "norm": "batch", "dropout": False}
    return types.SimpleNamespace(**facts, run_dir=tmp_path / "run", which="best", step=7)


def _write(name, text):
    return lambda place, sample, model: (place / name).write_text(text)


def _grown(place, sample, model):
    """Another length at the same time."""
    path, before = place / "a.png", (place / "a.png").stat()
    path.write_bytes(b"longer")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _set(what, value):
    return lambda place, sample, model: setattr(model, what, value)


@pytest.mark.parametrize(
    "change",
    [
        _write("landmarks.csv", "two"),
        _write("truth.json", "two"),
        _write("a.imzML", "longer"),
        _write("a.png", "longer"),
        _grown,
        lambda place, sample, model: os.utime(place / "a.png", ns=(5, 5)),
        lambda place, sample, model: (place / "a.png").unlink(),
        _write("run/checkpoints/best/7/notes/metadata", '{"sha256": 1}'),
        _write("run/provenance.json", '{"peaks": 1}'),
        _set("norm", "running"),
        _set("dropout", True),
        lambda place, sample, model: setattr(model.config, "ema", 0.5),
    ],
)
def test_whatever_decides_a_section_makes_another_of_it(sample, model, tmp_path, change):
    (tmp_path / "landmarks.csv").write_text("one")
    (tmp_path / "truth.json").write_text("one")
    sample = dataclasses.replace(sample, landmarks=tmp_path / "landmarks.csv")

    def key():
        return section_key(sample, {"seed": 0}, model, [tmp_path / "truth.json", None])

    before = key()
    assert key() == before
    change(tmp_path, sample, model)
    assert key() != before


def test_another_section_option_or_model_is_another_section(sample, model):
    keys = [
        section_key(sample, {"seed": 0}, None, []),
        section_key(sample, {"seed": 1}, None, []),
        section_key(sample, {"seed": 0}, model, []),
        section_key(dataclasses.replace(sample, msi_um_per_px=9.0), {"seed": 0}, None, []),
    ]
    assert len(set(keys)) == 4


def _make(kept, name, key="k", text="x"):
    with kept.make(name, key) as (folder, row):
        (folder / "tre.csv").write_text(text)
        row["sample_id"] = name


def test_a_section_is_found_whole_and_of_the_same(tmp_path):
    with finished_sections(tmp_path / "o") as kept:
        _make(kept, "a")
        assert kept.find("a", "k") == {"sample_id": "a"} and kept.count() == 1
        assert kept.find("a", "other") is None and kept.find("b", "k") is None
        for damage in ("y", None):
            path = kept.sections / "a" / "tre.csv"
            path.unlink() if damage is None else path.write_text(damage)
            assert kept.find("a", "k") is None
            _make(kept, "a")
        (kept.sections / "a" / "more").touch()
        assert kept.find("a", "k") is None
        for record in ("[]", "{}", "{half", '{"key": "k"}'):
            (kept.folder / "a.json").write_text(record)
            assert kept.find("a", "k") is None


def test_a_section_that_fails_is_not_kept_nor_what_was_there(tmp_path):
    with finished_sections(tmp_path / "o") as kept:
        _make(kept, "a")
        with pytest.raises(ValueError, match="x"), kept.make("a", "k") as (folder, _):
            (folder / "tre.csv").write_text("x")
            raise ValueError("x")
        assert kept.find("a", "k") is None and kept.count() == 0
    assert not list(tmp_path.iterdir())


def test_the_output_holds_the_sections_asked_for_and_no_rest(tmp_path):
    with finished_sections(tmp_path / "o") as kept:
        _make(kept, "a")
        _make(kept, "b")
        (kept.sections / "summary.json").write_text("{}")
        (kept.sections / ".summary.json.x").write_text("{half")
        kept.hand_over(tmp_path / "o", ["a"])
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["a", "summary.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["o"]


def test_what_is_kept_is_said_and_held(tmp_path):
    with finished_sections(tmp_path / "o") as kept:
        fault = InputError("x", "", "is damaged", "mend it")
        assert kept.words() == "" and str(kept.told(fault)) == str(fault)
        _make(kept, "a")
        assert kept.words().startswith(f"1 finished sections are kept in {tmp_path / 'o.work'}")
        assert f"is damaged (mend it; {kept.words()})" in str(kept.told(fault))
        with pytest.raises(InputError, match="another register"), locking.held(tmp_path / "o", "x"):
            pass
    assert json.loads((tmp_path / "o.work" / "a.json").read_text())["row"] == {"sample_id": "a"}
    with finished_sections(tmp_path / "o") as kept:
        assert kept.find("a", "k")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "o.work").write_text("mine")
    with (
        pytest.raises(InputError, match=r"o\.work: cannot be written.*choose a writable place"),
        finished_sections(tmp_path / "o"),
    ):
        pass
    assert (tmp_path / "o.work").read_text() == "mine"


def test_what_a_kill_left_is_no_finished_section(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / ".b.json.x.json").write_text("{}")
    assert Finished(tmp_path).count() == 1


@pytest.mark.parametrize(("kind", "said"), [("file", "is a file"), ("full", "is not empty")])
def test_an_output_that_is_something_else_is_refused_at_once(tmp_path, capsys, kind, said):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").touch()
    assert register.main(["--manifest=absent.csv", "--moving=pca", f"--out={out}"]) == 2
    assert said in capsys.readouterr().err and out.exists()
