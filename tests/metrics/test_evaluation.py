import math
import os
import subprocess
import sys

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from msi2he_jax.metrics import evaluation
from msi2he_jax.metrics.evaluation import NAMES, score_batch, score_images, summarize


@pytest.fixture(scope="module")
def split():
    random = np.random.default_rng(0)
    real = random.integers(0, 256, (5, 24, 32, 3)).astype(np.uint8)
    fake = np.clip(real / 255.0 + random.normal(0, 0.1, real.shape), 0, 1).astype(np.float32)
    tissue = np.zeros((5, 24, 32), bool)
    tissue[:, 4:20, 4:24] = True
    valid = np.ones_like(tissue)
    valid[:, :, 20:] = False
    return fake, real, tissue, valid


def test_names_and_values(split):
    fake, real, tissue, valid = split
    scores = score_images(*split, batch_size=2)
    assert tuple(scores) == ("paper", "tissue")
    assert tuple(scores["paper"]) == NAMES["paper"]
    assert set(scores["tissue"]) == set(NAMES["tissue"]) - {"ms_ssim"}
    assert {*NAMES["paper"], *NAMES["tissue"]} == set(evaluation.DEFINITIONS)
    expected = [
        structural_similarity(x, y / 255.0, data_range=1.0, channel_axis=-1)
        for x, y in zip(fake, real, strict=True)
    ]
    np.testing.assert_allclose(scores["paper"]["ssim"], expected, atol=1e-5)
    np.testing.assert_allclose(
        scores["paper"]["mi_bits"] * math.log(2), scores["paper"]["mi_nats"], rtol=1e-6
    )
    np.testing.assert_allclose(scores["tissue"]["tissue_fraction"], 16 * 16 / (24 * 32))
    inside = np.abs(fake - real / 255.0)[tissue & valid].reshape(5, -1).mean(axis=1)
    np.testing.assert_allclose(scores["tissue"]["mae_masked"], inside, rtol=1e-5)


def test_batch_size_does_not_matter(split):
    one, all_at_once = (score_images(*split, batch_size=size) for size in (2, 5))
    for block in NAMES:
        for name, values in one[block].items():
            np.testing.assert_allclose(values, all_at_once[block][name], atol=1e-5, err_msg=name)


def test_tissue_scores_see_the_tissue_only(split):
    fake, real, tissue, valid = split
    spoilt = np.where((tissue & valid)[..., None], fake, 0.2).astype(np.float32)
    scores, other = (score_images(f, real, tissue, valid)["tissue"] for f in (fake, spoilt))
    for name, values in scores.items():
        np.testing.assert_allclose(values, other[name], atol=1e-6, err_msg=name)


def test_ms_ssim_where_five_scales_fit():
    image = np.random.default_rng(0).random((1, 176, 176, 3)).astype(np.float32)
    scores = score_batch(image, image, np.ones((1, 176, 176), bool))
    np.testing.assert_allclose(scores["tissue"]["ms_ssim"], 1.0, atol=1e-5)


def test_summary_is_over_groups():
    scores = {"ssim": np.array([0.1, 0.3, 0.8]), "nmi": np.full(3, np.nan)}
    found = summarize(scores, ["a", "a", "b"])
    np.testing.assert_allclose(found["ssim"]["mean"], 0.4)
    np.testing.assert_allclose((found["ssim"]["low"], found["ssim"]["high"]), (0.2, 0.8))
    assert math.isnan(found["nmi"]["mean"])


ON_FOUR = """
import jax, numpy as np
from msi2he_jax.metrics import evaluation
random = np.random.default_rng(0)
fake, real = random.random((2, 12, 32, 32, 3), np.float32)
tissue = np.ones((12, 32, 32), bool)
tissue[:, :8] = False
inputs = fake, real, tissue, tissue
scored = evaluation._score_shared(*inputs)
assert len(scored["paper"]["mi_nats"].addressable_shards[0].data) == 3
odd = evaluation._score_shared(*(x[:5] for x in inputs))  # cannot be shared equally
assert odd["paper"]["mi_nats"].shape == (5,)
found = evaluation.score_images(*inputs, batch_size=2)  # two of eight, the second overlapping
alone = jax.device_get(evaluation.score_batch(*inputs))
for block in alone:
    for name, values in alone[block].items():
        np.testing.assert_allclose(found[block][name], values, atol=1e-6, err_msg=name)
print("as on one")
"""


def test_a_split_is_shared_between_devices():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", ON_FOUR]
    done = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True)
    assert done.stdout == "as on one\n", done.stderr[-3000:]
