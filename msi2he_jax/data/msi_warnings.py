"""What is odd about a sample's MSI: what its file says, and what the manifest says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msi2he_jax.data.manifest import Roi, Sample
from msi2he_jax.errors import InputError
from msi2he_jax.msi.open_msi import MsiFile
from msi2he_jax.msi.regions import separate_regions

PLAUSIBLE_UM = (0.5, 500.0)  # Pixel sizes that are measured with.
_SAME = 0.02  # Sizes that differ by less were rounded.
_MOST_LISTED = 6


def msi_warnings(
    msi: MsiFile, um_per_px: float | None, um_per_px_y: float | None, roi: Roi | None
) -> list[str]:
    """Lists in words what is odd about an imzML as it is used.

    Args:
        msi: An open file.
        um_per_px: Pixel size along x that was given for it, um; None is the file's own.
        um_per_px_y: Along y, um; None is as along x.
        roi: (x, y, w, h) in MSI pixels; None is all of it.
    """
    found = list(msi.warnings)
    said = _differing_sizes(msi, um_per_px, um_per_px_y)
    found += [said] if said else []
    regions = separate_regions(msi.mask) if roi is None else []
    if len(regions) > 1:
        listed = "; ".join(region.roi for region in regions[:_MOST_LISTED])
        more = "; ..." if len(regions) > _MOST_LISTED else ""
        found.append(
            f"holds {len(regions)} separate regions, taken as one section: give each its own row "
            f"with its msi_roi ({listed}{more}), if they are several"
        )
    return found


def refuse_impossible_size(
    msi: MsiFile, um_per_px: float | None, um_per_px_y: float | None
) -> None:
    """Refuses a given pixel size that is 1000 times the file's own, or a thousandth, by mistake.

    Raises:
        InputError: so it is, and only the file's own is one that is measured with.
    """
    sizes = _sizes(msi, um_per_px, um_per_px_y)
    if sizes is None:
        return
    given, own = sizes
    thousandfold = _is(given / own, 1000) or _is(own / given, 1000)
    if thousandfold and _plausible(own) and not _plausible(given):
        why = f"is {_text(given)} um, the file says {_text(own)} um (x, y)"
        raise InputError(
            msi.path,
            "msi_um_per_px",
            why,
            "fill the manifest's column msi_um_per_px in um, not in nm or mm",
        )


def _differing_sizes(msi: MsiFile, um_per_px, um_per_px_y) -> str:
    """Says where a given pixel size is not the file's own, and what may be the cause."""
    sizes = _sizes(msi, um_per_px, um_per_px_y)
    if sizes is None or _is(sizes[0] / sizes[1], 1):
        return ""
    given, own = sizes
    cause = ""
    if _is(given / own[::-1], 1):
        cause = ": are x and y exchanged?"
    elif _is(given / own, 1000) or _is(own / given, 1000):
        cause = ": is one of them in nm or mm?"
    text = f"the pixel size given is {_text(given)} um (x, y), the file says {_text(own)} um"
    return f"{text}{cause}; the given one is used"


def _sizes(msi: MsiFile, um_per_px, um_per_px_y) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the pixel size given and the file's own, (x, y), um; None where one is not known."""
    if msi.pixel_size_um is None or (um_per_px is None and um_per_px_y is None):
        return None
    own = np.array(msi.pixel_size_um[::-1], np.float64)
    x = own[0] if um_per_px is None else um_per_px
    y = um_per_px_y if um_per_px_y is not None else own[1] if um_per_px is None else um_per_px
    return np.array([x, y], np.float64), own


def _is(ratio: np.ndarray, value: float) -> bool:
    return bool(np.all(np.abs(ratio / value - 1) < _SAME))


def _plausible(size: np.ndarray) -> bool:
    return PLAUSIBLE_UM[0] <= size.min() and size.max() <= PLAUSIBLE_UM[1]


def _text(size: np.ndarray) -> str:
    return f"{size[0]:g} x {size[1]:g}"


def shared_file_warnings(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Lists in words, by sample_id, the rows that take all of a file that others use too.

    Args:
        samples: Of a manifest.
    """
    found: dict[str, list[str]] = {}
    for files, column in (("imzml", "msi_roi"), ("histology", "histology_roi")):
        by_file: dict = {}
        for sample in samples:
            by_file.setdefault(getattr(sample, files).resolve(), []).append(sample)
        for path, users in by_file.items():
            for sample in users if len(users) > 1 else []:
                if getattr(sample, column) is None:
                    other = next(each for each in users if each is not sample)
                    said = f"{column} is empty, so all of {path.name} is taken, which "
                    said += f"{other.sample_id} uses too: give each row its region"
                    found.setdefault(sample.sample_id, []).append(said)
    return found
