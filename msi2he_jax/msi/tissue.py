"""Where the tissue is, from the ions themselves and not from the outline of what was measured."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, stats
from skimage.filters import threshold_otsu

_BLUR_PX = 0.7


def tissue_from_ions(images: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Tells tissue from its surroundings by the majority of ions.

    Each ion's pixels are ranked among those measured, and a pixel's median rank over all ions is
    split by Otsu's threshold. Ions of the matrix, of the solvent or of a section's rim are brighter
    where there is no tissue; as long as they are fewer than half, they cannot move a median.

    Args:
        images: `[H, W, K]` float, ion images; a few dozen of the strongest peaks are enough.
        measured: `[H, W]` bool.

    Returns:
        `[H, W]` bool, within `measured`; all of it where no ion tells one pixel from another.

    Source: Otsu 1979 (IEEE Trans. SMC 9:62).
    """
    known = measured.astype(np.float64)
    share = np.maximum(ndimage.gaussian_filter(known, _BLUR_PX), 1e-3)
    smooth = ndimage.gaussian_filter(images * known[..., None], (_BLUR_PX, _BLUR_PX, 0))
    pixels = (smooth / share[..., None])[measured]
    median = np.median(stats.rankdata(pixels, axis=0), axis=1)
    tissue = measured.copy()
    if np.ptp(median) > 0:
        tissue[measured] = median > threshold_otsu(median)
    return tissue
