"""Every example runs, on tiny data, and does what it says."""

import json
import pathlib
import runpy

import numpy as np
import pytest
from PIL import Image

from msi2he_jax import preprocess, simulate
from msi2he_jax.interop.ome_tiff import read_ome_tiff

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
SHORT = ("coregister", "ion_on_slide", "metrics_alone", "own_cohort", "own_loss")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    flags = [f"--out={folder}", "--sections=4", "--grid=16", "--histology-um-per-px=12.5"]
    assert simulate.main([*flags, "--spectra=centroid", "--seed=5", "--quiet"]) == 0
    return folder / "manifest.csv"


def run(name, *words):
    runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](list(words))


@pytest.mark.parametrize("name", SHORT)
def test_examples_are_short_and_use_public_names(name):
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    assert len(lines) <= 65 and "import msi2he_jax as msi2he" in lines


def test_own_cohort(manifest, tmp_path, capsys):
    run("own_cohort", f"--manifest={manifest}", f"--out={tmp_path}", "--peaks=8")
    printed = capsys.readouterr().out
    assert "training: finished at step 1" in printed and "nats in the tissue" in printed
    (path, *_) = sorted(tmp_path.glob("*_SYNTHETIC.ome.tif"))
    (pixels, *_) = read_ome_tiff(path).levels
    assert pixels.dtype == np.uint8 and pixels.shape[-1] == 3 and pixels.std() > 1


def test_coregister_moves_annotations(manifest, tmp_path, capsys):
    square = [[10, 10], [90, 10], [90, 90], [10, 90], [10, 10]]
    geometry = {"type": "Polygon", "coordinates": [square]}
    feature = {"type": "Feature", "geometry": geometry, "properties": {"name": "lesion"}}
    path = tmp_path / "slide.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    words = [f"--manifest={manifest}", f"--out={tmp_path}", f"--annotations={path}"]
    run("coregister", *words, "--slide_um_per_px=12.5")
    assert "off the eval landmarks, certain to" in capsys.readouterr().out
    moved = json.loads(next(tmp_path.glob("*/annotations.geojson")).read_text())
    assert len(moved["features"][0]["geometry"]["coordinates"][0]) >= 5


def test_ion_on_slide(manifest, tmp_path, capsys):
    mz = json.loads((manifest.parent / "cohort.json").read_text())["ions"][0]["mz"]
    run("ion_on_slide", f"--manifest={manifest}", f"--mz={mz}", f"--out={tmp_path / 'ion.png'}")
    assert ";" in capsys.readouterr().out
    pixels = np.asarray(Image.open(tmp_path / "ion.png")).astype(int)
    assert (pixels[..., 0] - pixels[..., 1]).max() > 50  # somewhere it is red


def test_own_loss(manifest, tmp_path, capsys):
    from msi2he_jax.training import methods

    pairs = tmp_path / "pairs"
    assert (
        preprocess.main([f"--manifest={manifest}", f"--out={pairs}", "--peaks=8", "--quiet"]) == 0
    )
    config = tmp_path / "tiny.json"
    small = {"discriminator": {"name": "none"}, "model": {"depth": 5, "features": 2}}
    config.write_text(json.dumps(small))
    before = methods.METHODS["regression"]
    try:
        words = [f"--data={pairs}", f"--workdir={tmp_path / 'run'}", f"--config={config}"]
        run("own_loss", *words, "--steps=2")
    finally:
        methods.METHODS["regression"] = before
    assert "finished at step 2" in capsys.readouterr().out
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    losses = [line["reconstruction"] for line in lines if line["split"] == "train"]
    # Charbonnier's loss is never below its softness; L1 in [-1, 1] would be near it too, so finite.
    assert losses and all(np.isfinite(losses)) and min(losses) > 1e-3


def test_metrics_alone(tmp_path, capsys):
    rng = np.random.default_rng(0)
    real = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    for name, pixels in (("a", real), ("b", 255 - real), ("m", np.full((32, 32), 255, np.uint8))):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    run("metrics_alone", *(str(tmp_path / f"{name}.png") for name in "abm"))
    printed = dict(line.rsplit(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert printed["frame: SSIM"] == printed["mask: SSIM"]  # the mask is the whole frame
    assert float(printed["frame: MI, nats"]) > 1.0  # a negative knows all of its positive
