"""The table of similarities: what is added to it, both engines and `register --help` know."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from msi2he_jax import register
from msi2he_jax.registration import transforms
from msi2he_jax.registration.automatic import make_pair, register_affine
from msi2he_jax.registration.deformable import register_deformable
from msi2he_jax.registration.similarity import METRICS, Similarity
from msi2he_jax.registration.transforms import Displacement

SLIDE_UM, MSI_UM, SHAPE = 50.0, 200.0, (20, 22)
SIZES = {"moving_um_per_px": MSI_UM, "fixed_um_per_px": SLIDE_UM}
MATRIX = transforms.rotation(140, mirrored=True, center_from=(2000, 2200), center_to=(1600, 1700))


def slide(size=64, seed=1):
    """Three textures `[3, size, size]` of a lopsided piece of tissue, and its mask."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle = np.arctan2(y, x)
    mask = np.hypot(y, x) < 0.3 + 0.05 * np.sin(angle) + 0.05 * np.sin(2 * angle + 1)
    noise = np.random.default_rng(seed).normal(size=(3, size, size))
    return ndimage.gaussian_filter(noise, (0, 4, 4)), mask


def measured(image, displacement=None):
    """An image of the slide on the MSI's pixels."""
    frames = {"source_um_per_px": SLIDE_UM, "out_um_per_px": MSI_UM, "out_shape": SHAPE}
    options = {"matrix_out_to_source": MATRIX, "displacement": displacement}
    return transforms.warp_image(image, **frames, **options)


def error_px(tissue, there, truth=None):
    points = (np.argwhere(tissue) + 0.5) * MSI_UM
    gap = there(points) - transforms.apply_transform(MATRIX, truth, points)
    return np.median(np.linalg.norm(gap, axis=1)) / MSI_UM


@pytest.fixture
def likeness(monkeypatch):
    """A similarity of the table: one less the sum of squared differences, as a share."""
    shapes = []

    def prepare(pair):
        return pair["values"] * pair["mask"][None], pair["weight"][None]

    def score(ready, values, mask, known_slide):
        shapes.append((values.shape, mask.shape))
        known, weight = ready
        gap = jnp.sum(weight * (known - values * mask[None]) ** 2)
        return 1.0 - gap / jnp.sum(weight * known**2)

    toy = Similarity("squared differences", prepare, score, score, stiffness=0.3)
    monkeypatch.setitem(METRICS, "ssd", toy)
    return shapes


def test_a_new_similarity_is_one_entry_for_the_affine_engine(likeness):
    (texture, *_), mask = slide()
    density = np.where(mask, texture, 0.0)
    tissue = measured(mask)
    found = register_affine(measured(density), density, tissue, mask, metric="ssd", **SIZES)
    assert error_px(tissue, lambda p: transforms.apply_affine(found.matrix, p)) < 0.3
    assert 0.8 < found.score <= 1.0
    assert set(likeness) == {((1, 64, 64), (64, 64))}


def test_a_new_similarity_is_one_entry_for_the_deformable_engine(likeness):
    (texture, *_), mask = slide()
    density = np.where(mask, texture, 0.0)
    axes = [(np.arange(n) + 0.5) * MSI_UM for n in SHAPE]
    waves = np.sin(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)[..., ::-1] / 600.0)
    truth = Displacement(*axes, 150.0 * waves)
    tissue = measured(mask, truth)
    pair = make_pair(measured(density, truth), density, tissue, mask, **SIZES)
    found = register_deformable(pair, MATRIX, metric="ssd")
    before = error_px(tissue, lambda p: transforms.apply_affine(MATRIX, p), truth)
    after = error_px(
        tissue, lambda p: transforms.apply_transform(MATRIX, found.displacement, p), truth
    )
    assert after < before / 2
    assert found.affine_score < found.score <= 1.0
    assert likeness


def test_a_similarity_may_regress_the_slide_on_all_channels(monkeypatch):
    """What is prepared: a projection on the MSI's channels, and the marginal of the whole slide."""
    shapes = []

    def prepare(pair):
        shapes.append((pair["values"].shape, pair["fixed"].shape))
        channels, n, _ = pair["values"].shape
        root = jnp.sqrt(pair["weight"] * pair["mask"]).reshape(1, -1)
        known = jnp.concatenate([jnp.ones((1, n * n)), pair["values"].reshape(channels, -1)])
        known = known * root
        basis = jnp.linalg.solve(known @ known.T + 1e-2 * jnp.eye(channels + 1), known)
        slide, tissue = pair["fixed"][:-1], pair["fixed"][-1]
        mean = slide.sum((1, 2)) / tissue.sum()
        spread = (slide**2).sum((1, 2)) / tissue.sum() - mean**2
        return {"known": known, "basis": basis, "root": root, "spread": spread}

    def explained(ready, values, mask, known_slide):
        seen = (values * mask[None]).reshape(len(values), -1) * ready["root"]
        rest = seen - (seen @ ready["basis"].T) @ ready["known"]
        share = jnp.sum(rest**2, axis=1) / jnp.sum(ready["root"] ** 2)
        return jnp.mean(1.0 - share / ready["spread"])

    monkeypatch.setitem(METRICS, "toy", Similarity("all channels", prepare, explained, explained))
    textures, mask = slide()
    density = np.where(mask, textures[0] - textures[1], 0.0)
    tissue = measured(mask)
    moving = np.stack([measured(texture) for texture in textures], axis=-1)
    start = MATRIX @ transforms.rotation(5, center_from=(2100, 2300), center_to=(2000, 2200))
    found = register_affine(moving, density, tissue, mask, metric="toy", start=start, **SIZES)
    assert error_px(tissue, lambda p: transforms.apply_affine(found.matrix, p)) < 0.5
    assert 0.5 < found.score <= 1.0
    assert set(shapes) == {((3, 64, 64), (2, 64, 64))}


def test_register_offers_the_table_and_says_what_each_is():
    flag = register.FLAGS["metric"]
    assert flag.parser.enum_values == list(METRICS)
    for name, similarity in METRICS.items():
        assert f"{name}: {similarity.summary}." in flag.help


def test_help_lists_a_new_similarity():
    code = (
        "import sys; from msi2he_jax.registration.similarity import METRICS, Similarity; "
        "METRICS['ssd'] = Similarity('squared differences', *[None] * 3); "
        "from msi2he_jax import register; sys.exit(register.main(['--help']))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    assert "|ssd\n" in printed.stdout and "ssd: squared differences." in printed.stdout
