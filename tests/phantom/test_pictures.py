import pathlib

import numpy as np
import pytest
from PIL import Image

from msi2he_jax.errors import InputError
from msi2he_jax.phantom import cohort, pictures, staining, tissue
from msi2he_jax.phantom.outlines import PLAIN
from msi2he_jax.phantom.textures import Canvas

SIZES = {"um_per_px": 8.0, "radius_um": 480.0}


def _slide(seed=0):
    rng = np.random.default_rng(seed)
    habit, stain = tissue.draw_habit(rng), staining.draw_stain(rng)
    laid = tissue.lay_out(rng, Canvas((260, 300), 8.0), habit, (1040.0, 1200.0), 1000.0)
    return laid, staining.render(rng, laid, stain)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(2):
        pixels = _slide(seed)[1].copy()
        pixels[5:25, 10:290] = (20, 130, 60)
        Image.fromarray(pixels).save(folder / f"slide{seed}.png")
    Image.fromarray(pixels[:30, :30]).save(folder / "tiny.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_unusable_pictures_are_left_out_with_a_reason(folder):
    skipped = []
    read = pictures.read_pictures(folder, most=9, on_skip=skipped.append, **SIZES)
    assert [picture.path.name for picture in read] == ["slide0.png", "slide1.png"]
    assert len(skipped) == 2
    assert any("tiny.png" in why and "30 x 30" in why for why in skipped)


def test_sections_are_cut_from_different_places(folder):
    picture = pictures.read_pictures(folder, most=1, **SIZES)[0]
    rng = np.random.default_rng(0)
    cut = list(pictures.cut_sections(rng, picture, [PLAIN] * 3, **SIZES))
    assert len({tuple(facts["crop_xywh"]) for _, facts in cut}) == 3
    for slide, _ in cut:
        total = slide.abundance.sum(axis=-1)
        assert slide.mask.mean() > 0.1 and total.max() < 1.001
        y, x = np.nonzero(slide.mask)
        far = np.hypot((y + 0.5) * 8 - slide.center_yx[0], (x + 0.5) * 8 - slide.center_yx[1])
        assert far.max() < 490
        assert slide.pixels[~slide.mask].mean() > 200


def test_pen_marks_are_not_tissue(folder):
    picture = pictures.read_pictures(folder, most=1, **SIZES)[0]
    assert not picture.mask[8:22, 20:280].any()


def test_latent_classes_follow_the_stains():
    laid, pixels = _slide(1)
    glass = np.array([243.0, 241.0, 244.0])
    maps = pictures.soft_compartments(pixels, laid.mask, glass, 8.0)
    assert np.allclose(maps.sum(axis=-1)[laid.mask], 1.0, atol=1e-4)
    assert not maps[~laid.mask].any()
    index = {name: k for k, name in enumerate(tissue.COMPARTMENTS[1:])}
    fat, cells = laid.labels == tissue.ADIPOSE, laid.labels == tissue.TUMOUR
    stroma = laid.labels == tissue.STROMA
    white = maps[..., index["adipose"]] + maps[..., index["lumen"]]
    dark = maps[..., [index["tumour"], index["epithelium"], index["immune"]]].sum(axis=-1)
    assert white[fat].mean() > 2 * white[stroma].mean()
    assert dark[cells].mean() > 2 * dark[stroma].mean()


def test_no_usable_picture_is_one_clear_error(folder, tmp_path):
    with pytest.raises(InputError, match="no image"):
        pictures.read_pictures(tmp_path, most=3, **SIZES)
    with pytest.raises(InputError, match="larger images"):
        pictures.read_pictures(folder, most=3, um_per_px=1.0, radius_um=4000.0)


def test_sections_of_one_picture_are_one_group(folder):
    from msi2he_jax.phantom.geometry import Raster
    from msi2he_jax.phantom.section import Probe

    plan = cohort.Plan(3, 2, 0, 8.0, "profile", "png", Probe(Raster((20, 20), (50.0, 50.0))))
    members = list(cohort.picture_members(plan, folder))
    assert [m.sample_id for m in members] == ["p00_s0", "p00_s1", "p01_s0"]
    assert [m.facts["source"] for m in members] == ["slide0.png", "slide0.png", "slide1.png"]


def test_however_many_sections_are_cut_all_hold_tissue():
    """Places already cut count less, but never less than places without tissue."""
    rows, columns = np.mgrid[:300, :500]
    mask = np.hypot(rows - 100, columns - 120) < 70
    pixels = np.where(mask[..., None], (205, 140, 185), 245).astype(np.uint8)
    maps = np.where(mask[..., None], 1.0, 0.0).astype(np.float32)
    picture = pictures.Picture(pathlib.Path("a.png"), pixels, mask, maps, np.full(3, 245.0))
    cut = pictures.cut_sections(np.random.default_rng(0), picture, [PLAIN] * 12, **SIZES)
    assert min(slide.mask.sum() for slide, _ in cut) > 100
