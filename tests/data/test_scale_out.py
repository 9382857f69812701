"""The verb at scale: the same bits wherever the work is done, after a kill, and with bad files."""

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from msi2he_jax import preprocess
from msi2he_jax.data import cohort as cohorts
from msi2he_jax.data import survey
from msi2he_jax.data.builder import read_split
from msi2he_jax.data.manifest import read_manifest
from msi2he_jax.data.split import assign_splits
from msi2he_jax.msi import ranges

PEAKS = "--peaks=6"


def run(manifest, out, *flags):
    return preprocess.main([f"--manifest={manifest}", f"--out={out}", PEAKS, *flags])


def record(out):
    """The provenance without what no two builds share: TFDS orders a record's fields at random."""
    found = json.loads((out / "provenance.json").read_text())
    del found["shards"]
    return found


@pytest.fixture
def small_ranges(cohort, monkeypatch):
    """Has every file of the cohort taken for a large one, of four ranges or so."""
    smallest = min(path.stat().st_size for path in cohort.parent.rglob("*.ibd"))
    monkeypatch.setattr(ranges, "RANGE_BYTES", smallest // 3)


@pytest.fixture(scope="module")
def whole(cohort, tmp_path_factory):
    """The data set made in this process, without ranges."""
    out = tmp_path_factory.mktemp("whole") / "pairs"
    assert run(cohort, out) == 0
    return out


@pytest.mark.slow
def test_same_bits_in_ranges_on_a_pool_and_a_cluster(cohort, small_ranges, scheduler, tmp_path):
    assert run(cohort, tmp_path / "here") == 0
    assert run(cohort, tmp_path / "pool", "--workers=4") == 0
    assert run(cohort, tmp_path / "dask", f"--scheduler={scheduler}") == 0
    here = record(tmp_path / "here")
    assert here == record(tmp_path / "pool") == record(tmp_path / "dask")
    assert here["counts"] == {"train": 2, "validation": 2, "test": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dask", "here", "pool"]


def test_same_bits_of_whole_files_on_a_cluster(cohort, whole, scheduler, tmp_path, monkeypatch):
    """With names relative to here, which are not where the workers are."""
    monkeypatch.chdir(cohort.parent)
    assert run(cohort.name, tmp_path / "dask", f"--scheduler={scheduler}") == 0
    assert record(whole) == record(tmp_path / "dask")


def test_fitted_views_in_ranges(cohort, small_ranges, tmp_path):
    """Views are fitted to values that are read once, and new for each way to choose them."""
    flags = ["--view=pca", "--view_fit=train"]
    assert run(cohort, tmp_path / "here", *flags) == 0
    assert run(cohort, tmp_path / "pool", *flags, "--workers=2") == 0
    assert record(tmp_path / "here") == record(tmp_path / "pool")
    assert set(record(tmp_path / "here")["view_models"]) == {"pca"}


def test_ranges_change_nothing_but_rounding(cohort, whole, small_ranges, tmp_path, monkeypatch):
    bounds = []

    def spied(sample, *args, **options):
        bounds.append(options["bounds"])
        return survey_sum(sample, *args, **options)

    survey_sum = survey.sample_spectrum
    monkeypatch.setattr(survey, "sample_spectrum", spied)
    assert run(cohort, tmp_path / "ranges") == 0
    assert len(bounds) >= 2 * 4 and None not in bounds
    one, other = record(whole), record(tmp_path / "ranges")
    np.testing.assert_allclose(one["peaks"].pop("height"), other["peaks"].pop("height"), rtol=1e-9)
    assert one["peaks"] == other["peaks"]
    for split in ("train", "validation", "test"):
        for a, b in zip(read_split(whole, split), read_split(tmp_path / "ranges", split)):
            np.testing.assert_allclose(a["msi"], b["msi"], rtol=1e-6)
            np.testing.assert_array_equal(a["histology"], b["histology"])


# Continuing -----------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from msi2he_jax import preprocess
from msi2he_jax.data import cohort, work

def killed_at(module, name, last):
    original, calls = getattr(module, name), []
    def call(*args, **options):
        calls.append(1)
        if len(calls) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **options)
    setattr(module, name, call)

killed_at({module}, {name!r}, {last})
preprocess.main(sys.argv[1:])
"""


def kill(manifest, out, module, name, last, *flags):
    """Runs the verb in another process and kills it at the call number `last` of a function."""
    code = KILLED.format(module=module, name=name, last=last)
    words = [f"--manifest={manifest}", f"--out={out}", PEAKS, *flags]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    return out.with_name(out.name + ".work")


@pytest.fixture
def made(monkeypatch):
    """Lists what is made in this process, as (stage, sample)."""
    calls = []

    def watch(module, name, stage):
        original = getattr(module, name)

        def call(sample, *args, **options):
            calls.append((stage, sample.sample_id))
            return original(sample, *args, **options)

        monkeypatch.setattr(module, name, call)

    watch(survey, "survey_sample", "survey")
    watch(survey, "sample_spectrum", "sum")
    watch(cohorts, "make_pair", "pair")
    return calls


def test_a_killed_run_continues_with_what_is_missing(cohort, whole, tmp_path, made, capsys):
    """Two pairs were done; of one of them the file is damaged since."""
    out = tmp_path / "pairs"
    folder = kill(cohort, out, "cohort", "make_pair", 3)
    done = sorted(path.name.split("-")[1] for path in folder.glob("pair-*.json"))
    assert len(done) == 2 and len(list(folder.glob("survey-*.json"))) == 6
    damaged = next(folder.glob(f"pair-{done[0]}-*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert run(cohort, out) == 0
    assert {stage for stage, _ in made} == {"pair"}
    again = [sample for _, sample in made]
    assert done[0] in again and done[1] not in again and len(again) == 5
    assert "continued an earlier run: 9 of 14 units were already done" in capsys.readouterr().out
    assert record(out) == record(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]


def test_a_run_killed_while_a_unit_is_written_continues(cohort, whole, tmp_path, made):
    out = tmp_path / "pairs"
    folder = kill(cohort, out, "work", "write_json", 8)
    assert len(list(folder.glob("*.npz"))) == 8 and len(list(folder.glob("*.json"))) == 7
    assert run(cohort, out) == 0
    assert [stage for stage, _ in made] == ["sum"] + ["pair"] * 6
    assert record(out) == record(whole)


def test_a_run_killed_between_ranges_continues(cohort, small_ranges, tmp_path, made):
    assert run(cohort, tmp_path / "calm") == 0
    everything = len(made)
    made.clear()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _interrupt_at(patch, cohorts, "measure", 5)
        _run_through(cohort, tmp_path / "pairs")
    made.clear()
    assert run(cohort, tmp_path / "pairs") == 0
    assert [stage for stage, _ in made] == ["pair"] * 6 and everything > 6
    assert record(tmp_path / "pairs") == record(tmp_path / "calm")


def _interrupt_at(patch, module, name, last):
    original, calls = getattr(module, name), []

    def call(*args, **options):
        calls.append(1)
        if len(calls) == last:
            raise KeyboardInterrupt
        return original(*args, **options)

    patch.setattr(module, name, call)


def _run_through(manifest, out):
    """As the verb, but lets Ctrl-C through."""
    values = preprocess.FLAGS
    values.unparse_flags()
    for name in values:
        values[name].unparse()
    preprocess.run(values, values(["verb", f"--manifest={manifest}", f"--out={out}", PEAKS])[1:])


def test_other_choices_and_other_files_find_nothing_stale(cohort, tmp_path, made):
    manifest = shutil.copytree(cohort.parent, tmp_path / "cohort") / cohort.name
    out = tmp_path / "pairs"
    folder = kill(manifest, out, "cohort", "make_pair", 4)
    kept = shutil.copytree(folder, tmp_path / "kept")
    assert run(manifest, out, "--exclude_mz=500.0") == 0
    assert [stage for stage, _ in made] == ["sum"] * 2 + ["pair"] * 6
    made.clear()
    shutil.rmtree(out)
    kept.rename(folder)
    sample = read_manifest(manifest)[0]
    lines = sample.landmarks.read_text().splitlines()
    sample.landmarks.write_text("\n".join([*lines[:-1], lines[-1] + " "]))
    assert run(manifest, out) == 0
    assert ("survey", sample.sample_id) in made and ("pair", sample.sample_id) in made
    assert sum(stage == "survey" for stage, _ in made) == 1


# Bad files -------------------------------------------------------------------------------------


def damaged(cohort, folder, split):
    """A copy of the cohort; the last intensity of the first sample of a split is not a number."""
    manifest = shutil.copytree(cohort.parent, folder) / cohort.name
    samples = read_manifest(manifest)
    splits = assign_splits(samples, 0)
    sample = next(sample for sample in samples if splits[sample.sample_id] == split)
    ibd = sample.imzml.with_suffix(".ibd")
    content = ibd.read_bytes()
    bad = content[:-4] + np.float32(np.nan).tobytes()
    ibd.write_bytes(bad)
    stated, found = (hashlib.sha1(each).hexdigest() for each in (content, bad))
    assert stated in sample.imzml.read_text().lower()
    sample.imzml.write_text(re.sub(stated, found, sample.imzml.read_text(), flags=re.I))
    return manifest, sample.sample_id


@pytest.mark.parametrize("where", ["here", "pool", "dask"])
def test_a_spectrum_damaged_in_the_second_pass(
    cohort, small_ranges, tmp_path, where, capsys, request
):
    """The test split decides nothing, so its intensities are read for the pairs only."""
    flags = {"here": [], "pool": ["--workers=2"]}.get(where)
    if flags is None:
        flags = [f"--scheduler={request.getfixturevalue('scheduler')}"]
    manifest, name = damaged(cohort, tmp_path / "cohort", "test")
    assert run(manifest, tmp_path / "pairs", *flags) == 2
    message = capsys.readouterr().err
    assert f"{name}.imzML: spectrum " in message and "is nan" in message
    assert len(message.splitlines()) == 1 and not (tmp_path / "pairs").exists()
    assert run(manifest, tmp_path / "pairs", *flags, "--on_error=skip") == 0
    found = record(tmp_path / "pairs")
    assert [skipped["sample_id"] for skipped in found["skipped"]] == [name]
    assert "is nan" in found["skipped"][0]["why"] and found["counts"]["test"] == 1
    assert f"warning: {name}: left out: " in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cohort", "pairs"]


@pytest.mark.parametrize("in_ranges", [False, True])
def test_a_spectrum_damaged_in_the_first_pass(cohort, tmp_path, in_ranges, request):
    """The sample is left out of everything, and told of once."""
    if in_ranges:
        request.getfixturevalue("small_ranges")
    manifest, name = damaged(cohort, tmp_path / "cohort", "train")
    flags = ["--preset=paper", "--on_error=skip", "--target_um_per_px=50"]
    assert run(manifest, tmp_path / "skipping", *flags) == 0
    found = record(tmp_path / "skipping")
    assert [skipped["sample_id"] for skipped in found["skipped"]] == [name]
    without = [line for line in manifest.read_text().splitlines() if not line.startswith(name)]
    manifest.write_text("\n".join(without))
    assert run(manifest, tmp_path / "without", *flags) == 0
    expected = record(tmp_path / "without")
    for part in ("axis", "peaks", "scaling", "content_sha256", "counts", "samples"):
        assert found[part] == expected[part]
