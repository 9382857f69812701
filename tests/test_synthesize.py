"""The verb on a tiny simulated cohort and an untrained network: what it writes, what it refuses."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from msi2he_jax import config as configs
from msi2he_jax import locking, preprocess, simulate, synthesize
from msi2he_jax.data.loader import load_arrays
from msi2he_jax.inference import load_model, to_uint8
from msi2he_jax.interop.ome_tiff import read_ome_tiff
from msi2he_jax.msi.axes import mass_axis
from msi2he_jax.training import checkpoint, methods, preparation
from msi2he_jax.training.run import prepare_folder
from msi2he_jax.training.same_run import provenance_digest
from msi2he_jax.training.state import create_train_state


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with cohort/, pairs/ and run/."""
    place = tmp_path_factory.mktemp("synthesize")
    cohort = ["--sections=3", "--sections-per-patient=1", "--grid=14", "--seed=3"]
    cohort += ["--histology-um-per-px=25"]
    assert simulate.main([f"--out={place / 'cohort'}", *cohort]) == 0
    manifest = f"--manifest={place / 'cohort' / 'manifest.csv'}"
    assert preprocess.main([manifest, f"--out={place / 'pairs'}", "--peaks=5"]) == 0
    config = configs.default_config()
    config.data.dir = str(place / "pairs")
    config.discriminator.name = "none"
    config.model.name, config.model.depth, config.model.features = "unet_ronneberger", 1, 4
    config.test.norm_at_test = "running"
    config = preparation.complete_config(config, load_arrays(place / "pairs", "train"))
    prepare_folder(place / "run", config)
    _save(place / "run", config)
    return place


def _save(run, config):
    """Saves a first checkpoint, bound to the run's provenance as training does."""
    state = create_train_state(config, *methods.build_optimizers(config, 1))
    with checkpoint.managers(run) as managers:
        checkpoint.save(managers["best"], state, {"provenance": provenance_digest(run)})


def _imzml(place, sample_id):
    return next((place / "cohort").rglob(f"{sample_id}.imzML"))


@pytest.fixture(scope="module")
def out(place):
    """What the verb makes of all three splits."""
    flags = [f"--run={place / 'run'}", f"--data={place / 'pairs'}", "--split=all"]
    assert synthesize.main([*flags, f"--out={place / 'out'}"]) == 0
    return place / "out"


def test_every_sample_gets_three_marked_files(place, out):
    provenance = json.loads((place / "pairs" / "provenance.json").read_text())
    names = {sample["sample_id"] for sample in provenance["samples"]}
    for suffix in (".png", ".ome.tiff", ".json"):
        found = {p.name.removesuffix(suffix) for p in out.iterdir() if p.name.endswith(suffix)}
        assert found == {f"{name}_SYNTHETIC" for name in names}


def test_images_are_the_models_at_the_right_size(place, out):
    model, arrays = load_model(place / "run"), load_arrays(place / "pairs", "test")
    stem = out / f"{arrays.sample_ids[0]}_SYNTHETIC"
    rows, columns = arrays.extent_px[0]
    expected = to_uint8(model.apply(arrays.msi[:1])[0])[:rows, :columns]
    slide = read_ome_tiff(f"{stem}.ome.tiff")
    assert np.abs(slide.levels[0].astype(int) - expected).max() <= 1
    assert slide.synthetic and slide.um_per_px == pytest.approx((25.0, 25.0))
    with Image.open(f"{stem}.png") as image:
        assert np.array_equal(np.asarray(image), slide.levels[0])
        assert "SYNTHETIC" in image.text["Description"]
        assert image.info["dpi"] == pytest.approx((1016, 1016), rel=1e-3)
    record = json.loads(stem.with_name(stem.name + ".json").read_text())
    assert record["synthetic"] and record["um_per_px"] == 25.0
    assert record["checkpoint"] == {"which": "best", "step": 0}
    assert record["source"]["split"] == "test" and record["norm_at_test"] == "running"


def test_spread_of_runs_is_written_beside(place, tmp_path):
    flags = [f"--run={place / 'run'}", f"--data={place / 'pairs'}", f"--out={tmp_path}"]
    assert synthesize.main([*flags, f"--ensemble={place / 'run'}"]) == 0
    (path,) = tmp_path.glob("*_spread.npy")
    spread = np.load(path, allow_pickle=False)
    with Image.open(path.with_suffix(".png")) as image:
        assert image.size == spread.shape[::-1] and "SYNTHETIC" in image.text["Description"]
    assert spread.dtype == np.float32 and spread.max() == 0  # a run does not differ from itself
    record = json.loads(path.with_name(path.name.replace("_spread.npy", ".json")).read_text())
    assert record["spread"]["images"] == 2 and record["spread"]["mean"] == 0
    plain = {p.name: p.read_bytes() for p in (place / "out").glob("*.png")}
    same = [p for p in tmp_path.glob("*_SYNTHETIC.png") if plain.get(p.name) == p.read_bytes()]
    assert len(same) == 1 or not plain  # the image itself is as without


def test_a_new_imzml_is_treated_as_the_training_data_were(place, out):
    """The imzML a pair was made of gives the same image as the pair."""
    arrays = load_arrays(place / "pairs", "test")
    name = arrays.sample_ids[0]
    flags = [f"--run={place / 'run'}", f"--imzml={_imzml(place, name)}"]
    assert synthesize.main([*flags, f"--out={place / 'new'}"]) == 0
    first, second = (
        read_ome_tiff(folder / f"{name}_SYNTHETIC.ome.tiff").levels[0].astype(int)
        for folder in (out, place / "new")
    )
    assert first.shape == second.shape
    # Frames are padded differently, which the network sees within its reach of the border.
    assert np.abs(first - second)[:-8, :-8].max() <= 1


def test_tiles_make_nearly_the_same_image(place, out):
    arrays = load_arrays(place / "pairs", "test")
    flags = [f"--run={place / 'run'}", f"--data={place / 'pairs'}", f"--out={place / 'tiled'}"]
    assert synthesize.main([*flags, "--tile_px=16", "--overlap_px=12"]) == 0
    name = f"{arrays.sample_ids[0]}_SYNTHETIC"
    whole, tiled = (
        np.asarray(Image.open(folder / f"{name}.png"), int) for folder in (out, place / "tiled")
    )
    assert whole.shape == tiled.shape and np.abs(whole - tiled).mean() < 4
    assert json.loads((place / "tiled" / f"{name}.json").read_text())["tiling"]["tiled"] is True


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data=D", "--imzml=F"], "both are given"),
        ([], "one of them is required"),
        (["--data=D", "--force"], "go with --imzml only"),
        (["--imzml=absent.imzML"], "absent.imzML"),
        (["--data=absent"], "absent"),
        (["--data=D", "--tile_px=32", "--overlap_px=32"], "must be below"),
        (["--data=D", "--batch_size=0"], "--batch_size"),
        (["--data=D", "--which=latest"], "no checkpoint"),
    ],
)
def test_wrong_flags_are_one_line_and_leave_nothing(place, tmp_path, capsys, flags, words):
    flags = [word.replace("=D", f"={place / 'pairs'}").replace("=F", "=x.imzML") for word in flags]
    before = set(place.rglob("*"))
    code = synthesize.main([f"--run={place / 'run'}", f"--out={tmp_path / 'out'}", *flags])
    error = capsys.readouterr().err
    assert code == 2 and words in error and len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()) and set(place.rglob("*")) == before


def _changed(place, tmp_path, change):
    """A copy of the run, made with another provenance."""
    leave = shutil.ignore_patterns("checkpoints")
    copy = shutil.copytree(place / "run", tmp_path / "run", ignore=leave)
    provenance = json.loads((copy / "provenance.json").read_text())
    change(provenance)
    (copy / "provenance.json").write_text(json.dumps(provenance))
    _save(copy, configs.load_config(copy / "config.json"))
    return copy


def _shift_peaks(provenance):
    axis, peaks = provenance["axis"], provenance["peaks"]
    for name in ("mz", "lower", "upper"):
        peaks[name][-1] = axis["mz_max"] + 500.0
    axis["mz_max"] += 1000.0
    ends = {name: axis[name] for name in ("mz_min", "mz_max", "step")}
    axis["bins"] = len(mass_axis(axis["kind"], **ends).mz)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_shift_peaks, "1 of the model's 5 peaks lie outside"),
        (lambda p: p["spectra"].update(polarity="positive"), "polarity"),
    ],
)
def test_an_imzml_of_another_kind_is_refused(place, tmp_path, capsys, change, words):
    run = _changed(place, tmp_path, change)
    imzml = next((place / "cohort").rglob("*.imzML"))
    assert synthesize.main([f"--run={run}", f"--imzml={imzml}", f"--out={tmp_path / 'o'}"]) == 2
    error = capsys.readouterr().err
    assert words in error and "--force" in error
    assert not (tmp_path / "o").exists()


def test_a_data_set_of_other_peaks_is_refused(place, tmp_path, capsys):
    run = _changed(place, tmp_path, lambda p: p["scaling"].update(transform="none"))
    flags = [f"--run={run}", f"--data={place / 'pairs'}", f"--out={tmp_path / 'o'}"]
    assert synthesize.main(flags) == 2
    assert "scaling" in capsys.readouterr().err and not (tmp_path / "o").exists()


def test_a_second_one_for_the_same_section_is_refused(place, tmp_path, capsys):
    """Others may write to the same folder."""
    flags = [f"--run={place / 'run'}", f"--out={tmp_path / 'out'}"]
    with locking.held(tmp_path / "out" / "p01_s0_SYNTHETIC", "synthesize"):
        assert synthesize.main([*flags, f"--imzml={_imzml(place, 'p01_s0')}"]) == 2
        assert "another synthesize is at work there" in capsys.readouterr().err
        assert synthesize.main([*flags, f"--imzml={_imzml(place, 'p02_s0')}"]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"p02_s0_SYNTHETIC{suffix}" for suffix in (".png", ".ome.tiff", ".json")}
