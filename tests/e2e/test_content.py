"""Content in is content out: intensities, and positions, from the files to what is written.

Nothing here is simulated by the package: spectra, slide and landmarks are planted, so that what
must come out is known to the last bit (intensities) or by geometry (positions).
"""

import csv
import dataclasses
import json
import uuid

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from msi2he_jax import config as configs
from msi2he_jax import preprocess, register, synthesize
from msi2he_jax.data import streaming
from msi2he_jax.data.builder import read_split
from msi2he_jax.data.loader import load_arrays, sample_batch, vary_batch
from msi2he_jax.interop.ome_tiff import read_ome_tiff
from msi2he_jax.phantom.imzml_writer import write_imzml
from msi2he_jax.phantom.spectra import Spectra
from msi2he_jax.training import checkpoint, methods, preparation
from msi2he_jax.training.run import prepare_folder
from msi2he_jax.training.state import create_train_state

SHAPE = (10, 16)  # MSI pixels
PLANTED = (4, 9)  # the pixel that alone shows ion LONE
LONE = 5
MZ = np.array([150.0 + 31.7 * k for k in range(24)])
SLIDE_UM, SLIDE_PX = 12.5, (168, 160)
PALE = np.array([225, 160, 195])  # tissue
SPOT_UM = (260.0, 405.0)  # (y, x) in the MSI's frame, of a spot on the slide


def _planted(seed):
    """Which pixels are measured, and the counts of each ion there, `[P, K]`."""
    rng = np.random.default_rng(seed)
    measured = np.ones(SHAPE, bool)
    measured[[0, 0, 9, 7], [0, 1, 15, 3]] = False
    counts = rng.integers(1, 1000, (measured.sum(), len(MZ))).astype(np.float32)
    counts[:, LONE] = 0
    counts[np.flatnonzero((np.argwhere(measured) == PLANTED).all(axis=1)), LONE] = 900
    return measured, counts


def _write_imzml(path, seed, um_yx):
    """Processed centroids, each line in two points near to each other, positions from (7, 4)."""
    rng = np.random.default_rng(100 + seed)
    measured, counts = _planted(seed)
    near = MZ * (1.0 + 1e-6 * rng.uniform(-1.0, 1.0, counts.shape))
    first = np.floor(counts / 3)
    mz = np.stack([near * (1 - 1e-6), near * (1 + 1e-6)], axis=-1)
    intensity = np.stack([first, counts - first], axis=-1)
    spectra = Spectra(mz.ravel(), intensity.ravel(), np.full(len(counts), 2 * len(MZ)))
    positions = np.argwhere(measured)[:, ::-1] + (7, 4)
    write_imzml(
        path,
        spectra,
        positions,
        kind="centroid",
        polarity="positive",
        um_yx=um_yx,
        identifier=uuid.UUID(int=seed + 1),
        version="0",
    )


def _matrix(mirrored):
    """MSI to histology, acting on (y, x, 1) um: turned by 20 degrees, mirrored or not, moved."""
    angle, flip = np.deg2rad(20.0), -1.0 if mirrored else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = 1.02 * turn @ np.diag([1.0, flip])
    middle = np.array([500.0, 400.0])
    matrix[:2, 2] = np.array([1050.0, 1000.0]) - matrix[:2, :2] @ middle
    return matrix


def _apply(matrix, yx):
    return np.asarray(yx) @ matrix[:2, :2].T + matrix[:2, 2]


def _write_slide(path, spot_yx, number):
    """Pale tissue on white with one dark spot, smooth and of finite size; a pixel tells slides."""
    y, x = (np.indices(SLIDE_PX) + 0.5) * SLIDE_UM
    tissue = np.hypot((y - 1050) / 900, (x - 1000) / 900) < 1
    reach = np.minimum(np.hypot(y - spot_yx[0], x - spot_yx[1]) / 100.0, 1.0)
    # Of another depth in each channel: their 8-bit roundings are then independent.
    spot = (0.5 + 0.5 * np.cos(np.pi * reach))[..., None] * (131.0, 103.0, 117.0)
    pixels = np.where(tissue[..., None], PALE - spot, 255.0)
    pixels[0, number] = 254.0
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(path)


def _write_cohort(folder, *, mirrored=False, um_yx=(50.0, 50.0), msi_roi="", histology_roi=""):
    """Three samples in as many splits; returns the manifest and the matrix of all."""
    matrix = _matrix(mirrored)
    corners = [(60.0, 70.0), (90.0, 730.0), (880.0, 110.0), (930.0, 700.0), (470.0, 380.0)]
    lines = ["name,use,histology_x_um,histology_y_um,msi_x_um,msi_y_um"]
    for number, (y, x) in enumerate(corners):
        there_y, there_x = _apply(matrix, (y, x)).tolist()
        lines.append(f"L{number},fit,{there_x!r},{there_y!r},{x!r},{y!r}")
    (folder / "points.csv").write_text("\n".join(lines))
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        names = "sample_id group_id imzml msi_roi histology histology_roi histology_um_per_px"
        writer.writerow([*names.split(), "msi_um_per_px", "msi_um_per_px_y", "landmarks", "split"])
        for number, split in enumerate(("train", "validation", "test")):
            slide = folder / f"s{number}.png"
            _write_slide(slide, _apply(matrix, SPOT_UM), number)
            _write_imzml(folder / f"s{number}.imzML", number, um_yx)
            row = [f"s{number}", f"p{number}", f"s{number}.imzML", msi_roi, slide, histology_roi]
            row += [SLIDE_UM, um_yx[1], um_yx[0], "points.csv", split]
            writer.writerow(row)
    return folder / "manifest.csv", matrix


def _centroid(weights):
    """(y, x) of the middle of what is there, px from the outer corner."""
    weights = np.asarray(weights, np.float64)
    places = np.indices(weights.shape) + 0.5
    return (places * weights).sum(axis=(1, 2)) / weights.sum()


def _spot(pixels, near_px, radius_px):
    """The centroid of the dark spot in a picture, looked for around a place."""
    middle = np.round(near_px).astype(int)
    low, high = middle - radius_px, middle + radius_px
    part = pixels[low[0] : high[0], low[1] : high[1]].astype(np.float64)
    return low + _centroid((PALE - part).sum(axis=-1))


def _pairs(manifest, *flags):
    out = manifest.parent / "pairs"
    flags += ("--peaks=24", "--axis_step=20", "--normalization=none")
    assert preprocess.main([f"--manifest={manifest}", f"--out={out}", *flags]) == 0
    return out


def test_every_ion_of_every_pixel_arrives(tmp_path):
    """Through rebinning, peaks, pairs, shards and both loaders, without normalisation."""
    manifest, _ = _write_cohort(tmp_path)
    out = _pairs(manifest, "--target_um_per_px=50")
    provenance = json.loads((out / "provenance.json").read_text())
    np.testing.assert_allclose(provenance["peaks"]["mz"], MZ, rtol=2e-5)  # a bin
    scale = np.array(provenance["scaling"]["scale"])
    _, trained_on = _planted(0)
    np.testing.assert_array_equal(scale, np.percentile(trained_on.astype(np.float64), 99.5, axis=0))
    for number, split in enumerate(("train", "validation", "test")):
        measured, counts = _planted(number)
        planted = np.zeros((*SHAPE, len(MZ)), np.float32)
        planted[measured] = counts
        (example,) = read_split(out, split)
        np.testing.assert_array_equal(example["msi_mask"], measured)
        np.testing.assert_array_equal(example["msi"], planted)
        np.testing.assert_array_equal(example["msi"].sum(axis=-1), planted.sum(axis=-1))
        expected = np.sqrt(np.clip(planted / scale, 0, 1)).astype(np.float32)
        held = load_arrays(out, split)
        np.testing.assert_array_equal(held.msi[0], expected)
        stream = streaming.Stream(streaming.open_stored(out, split), seed=0, batch_size=1)
        streamed = vary_batch(stream.batch(0), seed=0)
        drawn = sample_batch(held.device_dict(), step=0, seed=0, batch_size=1)
        for batch in (drawn, streamed):
            np.testing.assert_array_equal(batch["msi"][0], expected)
            image = np.asarray(batch["image"][0])
            np.testing.assert_allclose((image + 1) * 127.5, example["histology"], atol=1e-4)


GEOMETRIES = {
    "plain": {},
    "mirrored": {"mirrored": True},
    "anisotropic": {"um_yx": (100.0, 50.0)},
    "cropped": {"msi_roi": "2,1,12,8", "histology_roi": "14,11,140,150"},
    "all": {
        "mirrored": True,
        "um_yx": (100.0, 50.0),
        "msi_roi": "2,1,12,8",
        "histology_roi": "14,11,140,150",
    },
}


def _is_matrix(found_xy, matrix):
    """A file's matrix acts on (x, y, 1); lengths of some 1000 um agree to 1e-6 of them."""
    swap = np.eye(3)[[1, 0, 2]]
    np.testing.assert_allclose(swap @ np.array(found_xy) @ swap, matrix, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_positions_arrive_in_pairs(tmp_path, geometry):
    """A pixel of the MSI and a spot of the slide lie on the common grid where they must."""
    how = GEOMETRIES[geometry]
    manifest, matrix = _write_cohort(tmp_path, **how)
    out = _pairs(manifest, "--target_um_per_px=25")
    um_yx = np.array(how.get("um_yx", (50.0, 50.0)))
    left, top = map(int, how.get("msi_roi", "0,0").split(",")[:2])
    origin_um = np.array([top, left]) * um_yx
    (example,) = read_split(out, "train")
    lone_um = (np.array(PLANTED) + 0.5) * um_yx - origin_um
    np.testing.assert_allclose(_centroid(example["msi"][..., LONE]), lone_um / 25, atol=0.01)
    shift = np.eye(3)
    shift[:2, 2] = origin_um
    _is_matrix(example["msi_to_histology"], matrix @ shift)
    spot_px = (np.array(SPOT_UM) - origin_um) / 25
    np.testing.assert_allclose(_spot(example["histology"], spot_px, 6), spot_px, atol=0.01)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_positions_arrive_in_what_register_writes(tmp_path, geometry):
    """In transform.json, in the ion drawn on the slide, in the slide drawn on the MSI."""
    how = GEOMETRIES[geometry]
    manifest, matrix = _write_cohort(tmp_path, **how)
    flags = [f"--manifest={manifest}", "--moving=pca", "--method=control-points", "--samples=s0"]
    flags += [f"--ions={MZ[LONE]}", "--ion_ppm=20", f"--out={tmp_path / 'out'}"]
    assert register.main(flags) == 0
    folder = tmp_path / "out" / "s0"
    record = json.loads((folder / "transform.json").read_text())
    assert record["axes"] == "xy"
    _is_matrix(record["matrix"], matrix)
    um_yx = np.array(how.get("um_yx", (50.0, 50.0)))
    ions = read_ome_tiff(folder / "ions_on_histology.ome.tiff")
    expected_px = _apply(matrix, (np.array(PLANTED) + 0.5) * um_yx) / ions.um_per_px
    np.testing.assert_allclose(_centroid(ions.levels[0][..., 0]), expected_px, atol=0.01)
    drawn = read_ome_tiff(folder / "histology_on_msi.ome.tiff")
    spot_px = np.array(SPOT_UM) / drawn.um_per_px
    np.testing.assert_allclose(_spot(drawn.levels[0], spot_px, 12), spot_px, atol=0.01)


# Weights of the smallest U-Net, by place, that draw ion LONE alone, white on black, where it is.
DRAWS_LONE = {
    "core/encoder/0/convs/0/kernel": ((1, 1, LONE, 0), 1.0),
    "core/encoder/0/convs/1/kernel": ((1, 1, 0, 0), 1.0),
    "core/decoder/0/convs/0/kernel": ((1, 1, 0, 0), 1.0),
    "core/decoder/0/convs/1/kernel": ((1, 1, 0, 0), 1.0),
    "core/head/kernel": ((0, 0, 0), 24.0),  # into a sigmoid
    "core/head/bias": ((), -12.0),
}


def _run_that_draws_lone(pairs):
    """A run folder as training leaves it, of a network that leaves every pixel in its place."""
    config = configs.default_config()
    config.data.dir = str(pairs)
    config.discriminator.name = "none"
    config.model.name, config.model.depth, config.model.features = "unet_ronneberger", 1, 4
    config.test.norm_at_test = "running"
    config = preparation.complete_config(config, load_arrays(pairs, "train"))
    folder = pairs.parent / "run"
    prepare_folder(folder, config)
    state = create_train_state(config, *methods.build_optimizers(config, 1))
    placed = set()

    def weight(path, value):
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        if name.endswith("scale"):
            return value
        placed.add(name)
        index, size = DRAWS_LONE.get(name, ((), 0.0))
        return jnp.zeros_like(value).at[index].set(size)

    params = jax.tree_util.tree_map_with_path(weight, state.generator.params)
    assert placed.issuperset(DRAWS_LONE)
    state = dataclasses.replace(
        state, generator=dataclasses.replace(state.generator, params=params)
    )
    with checkpoint.managers(folder) as managers:
        checkpoint.save(managers["best"], state, {})
    return folder


@pytest.mark.parametrize("geometry", ("plain", "all"))
def test_positions_arrive_in_what_synthesize_writes(tmp_path, geometry):
    """Of a data set, whole, and of a new imzML, in tiles: the OME-TIFF tells where, in um."""
    how = GEOMETRIES[geometry]
    manifest, _ = _write_cohort(tmp_path, **how)
    run = _run_that_draws_lone(_pairs(manifest, "--target_um_per_px=25"))
    um_yx = np.array(how.get("um_yx", (50.0, 50.0)))
    left, top = map(int, how.get("msi_roi", "0,0").split(",")[:2])
    lone_um = (np.array(PLANTED) + 0.5) * um_yx
    tiles = ["--tile_px=16", "--overlap_px=4"]
    for source, flags, origin_um in (
        ("data", [f"--data={tmp_path / 'pairs'}"], np.array([top, left]) * um_yx),
        ("imzml", [f"--imzml={tmp_path / 's2.imzML'}", *tiles], np.zeros(2)),
    ):
        out = tmp_path / source
        assert synthesize.main([f"--run={run}", f"--out={out}", *flags]) == 0
        drawn = read_ome_tiff(out / "s2_SYNTHETIC.ome.tiff")
        assert drawn.um_per_px == (25.0, 25.0)
        middle = _centroid(drawn.levels[0].sum(axis=-1))
        np.testing.assert_allclose(middle, (lone_um - origin_um) / 25, atol=0.01)
