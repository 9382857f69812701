"""All scores of a batch, in the two blocks of results.json, and their summary over a split.

`paper` measures as the paper most likely did: the whole frame, background included, where an empty
slide scores well. `tissue` measures inside the tissue only, which is what counts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax.errors import InputError
from msi2he_jax.metrics import color, information, similarity
from msi2he_jax.metrics.checks import check_images, check_mask, check_number
from msi2he_jax.metrics.intervals import bootstrap_mean

PAPER_BINS, TISSUE_BINS = 256, 32
SHUFFLE_SEED = 0
PAPER_NAMES = ("mi_nats", "mi_bits", "ssim", "psnr_db", "mae", "r2")
TISSUE_NAMES = (
    "ssim_masked",
    "ms_ssim",
    "psnr_masked_db",
    "mae_masked",
    "r2_masked",
    "mi_corrected_nats",
    "nmi",
    "stain_h_correlation",
    "stain_e_correlation",
    "tissue_fraction",
)
NAMES = {"paper": PAPER_NAMES, "tissue": TISSUE_NAMES}
DEFINITIONS = {
    "mi_nats": "mutual information of Rec. 601 luminance, 256 bins on [0, 1], whole frame",
    "mi_bits": "the same in bits",
    "ssim": "scikit-image's defaults (7x7 uniform), RGB channel mean, whole frame",
    "psnr_db": "on [0, 1] RGB, whole frame",
    "mae": "mean absolute error on [0, 1] RGB, whole frame",
    "r2": "1 - squared error over that of the image's own mean colour, RGB, whole frame",
    "ssim_masked": "7x7 uniform, mean over pixels whose window lies in measured tissue",
    "ms_ssim": "5 scales, Gaussian 11x11, in tissue; absent below 176 px",
    "psnr_masked_db": "in tissue",
    "mae_masked": "in tissue",
    "r2_masked": "the same in tissue, beside that tissue's mean colour; a wrong shade: below 0",
    "mi_corrected_nats": "luminance, 32 bins, in tissue, minus the mean of 8 pixel shuffles",
    "nmi": "Studholme's, luminance, 32 bins, in tissue; 1 = unrelated, 2 = determined",
    "stain_h_correlation": "Pearson correlation of haematoxylin (Ruifrok-Johnston), in tissue",
    "stain_e_correlation": "the same of eosin",
    "tissue_fraction": "measured tissue over the whole frame",
}


@functools.partial(jax.jit, static_argnames=("ms_ssim",))
def score_batch(
    fake: jax.Array,
    real: jax.Array,
    tissue_mask: jax.Array,
    valid_mask: jax.Array | None = None,
    *,
    ms_ssim: bool = True,
) -> dict[str, dict[str, jax.Array]]:
    """Scores predictions against the real histology.

    Args:
        fake: `[B, H, W, 3]` float in [0, 1].
        real: `[B, H, W, 3]` float in [0, 1].
        tissue_mask: `[B, H, W]` bool.
        valid_mask: `[B, H, W]` bool, measured by MSI; None for everywhere. The `paper` block takes
            the whole frame, padding included, as the paper's registered pairs have it.
        ms_ssim: Whether to compute it too: it takes as long to compile as all the others.

    Returns:
        Blocks `paper` and `tissue`: `[B]` float32 by name of `NAMES` (`ms_ssim` only where its
        five scales fit).

    Raises:
        InputError: a frame smaller than the 7x7 window, or an argument of another shape or type.
    """
    check_images("score_batch", 4, tissue_mask, fake=fake, real=real)
    if valid_mask is not None:
        check_mask("score_batch", valid_mask, fake.shape[:3])
    inside = tissue_mask if valid_mask is None else tissue_mask & valid_mask
    fake, real = (jnp.asarray(image, jnp.float32) for image in (fake, real))
    grey = color.luminance(fake), color.luminance(real)
    return {
        "paper": _paper_scores(fake, real, grey),
        "tissue": _tissue_scores(fake, real, grey, inside, ms_ssim),
    }


def _paper_scores(fake, real, grey):
    mi_nats = information.mutual_information(*grey, bins=PAPER_BINS)
    return {
        "mi_nats": mi_nats,
        "mi_bits": mi_nats / math.log(2),
        "ssim": similarity.structural_similarity(fake, real, data_range=1.0),
        "psnr_db": similarity.psnr(fake, real, data_range=1.0),
        "mae": similarity.mae(fake, real),
        "r2": similarity.r2(fake, real),
    }


def _tissue_scores(fake, real, grey, mask, ms_ssim):
    scored = functools.partial(similarity.structural_similarity, fake, real, data_range=1.0)
    scores = {"ssim_masked": scored(mask=mask)}
    if ms_ssim and min(fake.shape[1:3]) >= similarity.ms_ssim_side(5):
        scores["ms_ssim"] = similarity.ms_ssim(fake, real, data_range=1.0, mask=mask)
    key = jax.random.key(SHUFFLE_SEED)
    corrected = information.corrected_mutual_information(
        *grey, bins=TISSUE_BINS, mask=mask, key=key
    )
    stains = color.stain_correlation(fake, real, mask)
    return scores | {
        "psnr_masked_db": similarity.psnr(fake, real, data_range=1.0, mask=mask),
        "mae_masked": similarity.mae(fake, real, mask=mask),
        "r2_masked": similarity.r2(fake, real, mask=mask),
        "mi_corrected_nats": corrected,
        "nmi": information.normalized_mutual_information(*grey, bins=TISSUE_BINS, mask=mask),
        "stain_h_correlation": stains["h"],
        "stain_e_correlation": stains["e"],
        "tissue_fraction": jnp.mean(mask, axis=(1, 2)),
    }


def score_images(
    fake: np.ndarray,
    real: np.ndarray,
    tissue_mask: np.ndarray,
    valid_mask: np.ndarray,
    *,
    batch_size: int = 8,
) -> dict[str, dict[str, np.ndarray]]:
    """Scores a whole split, batch by batch; no score depends on the batch size or the devices.

    Args:
        fake: `[N, H, W, 3]` float in [0, 1].
        real: `[N, H, W, 3]` uint8, or float in [0, 1].
        tissue_mask: `[N, H, W]` bool.
        valid_mask: `[N, H, W]` bool.
        batch_size: Images scored at once by each of this process' devices.

    Returns:
        As `score_batch`, `[N]` float64.

    Raises:
        InputError: as `score_batch`, or no image.
    """
    check_images("score_images", 4, tissue_mask, fake=fake, real=real)
    check_mask("score_images", valid_mask, fake.shape[:3])
    check_number("score_images", "batch_size", batch_size, 1)
    parts = []
    for rows, skip in batches(len(fake), batch_size * jax.local_device_count()):
        masks = tissue_mask[rows], valid_mask[rows]
        scores = _score_shared(fake[rows], unit_float(real[rows]), *masks)
        parts.append(jax.tree.map(lambda score, skip=skip: np.asarray(score, float)[skip:], scores))
    # jit hands dicts back sorted; files list the metrics in the order of NAMES.
    return {
        block: {
            name: np.concatenate([part[block][name] for part in parts])
            for name in names
            if name in parts[0][block]
        }
        for block, names in NAMES.items()
    }


def _score_shared(*arrays: np.ndarray) -> dict[str, dict[str, jax.Array]]:
    """Scores a batch, each device an equal part of it; one alone has what cannot be shared so."""
    devices = tuple(jax.local_devices())
    if len(devices) == 1 or len(arrays[0]) % len(devices):
        return score_batch(*arrays)
    return _on_devices(devices)(*arrays)


@functools.cache
def _on_devices(devices: tuple) -> Callable[..., dict]:
    mesh = jax.sharding.Mesh(np.array(devices), ("images",))
    split = jax.sharding.PartitionSpec("images")
    options = {"mesh": mesh, "in_specs": split, "out_specs": split, "check_vma": False}
    return jax.jit(jax.shard_map(score_batch, **options))


def batches(count: int, size: int) -> Iterator[tuple[slice, int]]:
    """Yields slices of one length that cover `count` items, so that one shape is compiled.

    Args:
        count: Number of items.
        size: Length of a slice, where there are as many items.

    Yields:
        A slice, and how many of its first items an earlier slice had already.
    """
    for start in range(0, count, size):
        first = max(0, min(start, count - size))
        yield slice(first, first + size), start - first


def unit_float(image: np.ndarray) -> np.ndarray:
    """Histology as float32 in [0, 1].

    Args:
        image: Array of uint8 (divided by 255), or of float in [0, 1] (only converted).

    Returns:
        float32 array of the same shape, `[...]`.

    Raises:
        InputError: of another type.
    """
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        why = f"is of {image.dtype}, expected uint8, or float in [0, 1]"
        raise InputError("unit_float", "image", why)
    return np.asarray(image, np.float32) / (255.0 if image.dtype == np.uint8 else 1.0)


def summarize(
    scores: Mapping[str, np.ndarray], groups: Sequence[str], *, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Mean and 95 % interval over groups, per metric.

    Args:
        scores: `[N]` float by metric name.
        groups: N names of groups.
        seed: Seed of the bootstrap.

    Returns:
        `{"mean", "low", "high"}` by metric name.
    """
    return {
        name: dict(
            zip(("mean", "low", "high"), bootstrap_mean(values, groups, seed=seed), strict=True)
        )
        for name, values in scores.items()
    }
