"""A picture of a section's MSI alone, to register by: a view of its peaks, or one ion."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from msi2he_jax.data.manifest import Sample
from msi2he_jax.data.msi_arrays import measured_region, msi_pixel_size_um
from msi2he_jax.data.msi_warnings import msi_warnings
from msi2he_jax.errors import InputError
from msi2he_jax.msi.images import tic_image
from msi2he_jax.msi.open_msi import MsiFile, open_msi
from msi2he_jax.msi.overview import named_ion_images, own_peak_images
from msi2he_jax.msi.projection import METHODS, component_images, project
from msi2he_jax.msi.tissue import tissue_from_ions

# Below this share of its bounding box, the measured region is taken to follow the tissue.
FOLLOWS_TISSUE_BELOW = 0.7
IONS = "ions"
COMPONENTS = 12


@dataclasses.dataclass(frozen=True, eq=False)
class MovingImage:
    """An image in the MSI frame.

    Attributes:
        kind: `synthetic`, `ions`, `tic`, `pca`, `tsne`, `umap` or `ion:MZ`.
        picture: `[H, W, C]` uint8 or float32, for people: RGB or one ion.
        features: `[H, W, D]` float32, for registration.
        measured: `[H, W]` bool.
        um_per_px: `[2]` float64 (y, x), um.
        origin_um: `[2]` float64 (y, x) of its outer corner in the imzML's frame, um.
        native_um: `[2]` float64 (y, x) pixel size of the measurement, um.
        confidence: `[H, W]` float32 in [0, 1], how much each pixel's say counts; None: all alike.
        warnings: What is odd about the imzML as it was read.
        tissue: `[H, W]` bool, where the ions show tissue, or None: not looked for.
    """

    kind: str
    picture: np.ndarray
    features: np.ndarray
    measured: np.ndarray
    um_per_px: np.ndarray
    origin_um: np.ndarray
    native_um: np.ndarray
    confidence: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    tissue: np.ndarray | None = None

    @property
    def synthetic(self) -> bool:
        """Whether a network made it."""
        return self.kind == "synthetic"

    @property
    def all_ions(self) -> bool:
        """Whether its features are principal components of all peaks, to be used together."""
        return self.kind == IONS

    def masks(self) -> tuple[np.ndarray | None, np.ndarray]:
        """Returns (tissue `[H, W]` bool or None, known `[H, W]` bool), as registration takes them.

        A measured rectangle shows tissue and its surroundings; one that follows the tissue says by
        its outline where tissue ends. Missing pixels within it say nothing either way. Where all
        ions are used, they say what is tissue, whatever the outline.
        """
        if self.all_ions:
            return None, self.measured
        filled = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(self.measured, 2)))
        filled = filled[2:-2, 2:-2] | self.measured
        rows, columns = np.nonzero(self.measured)
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        if self.measured.sum() >= FOLLOWS_TISSUE_BELOW * box:
            return None, self.measured
        return self.measured, self.measured | ~filled


def msi_picture(
    kind: str, sample: Sample, *, ion_ppm: float | None = None, seed: int = 0
) -> MovingImage:
    """Makes a picture of a section from its imzML alone.

    Args:
        kind: `ions`, a view (`pca`, `tsne`, `umap`) or `ion:MZ`.
        sample: The section.
        ion_ppm: Half width of an ion's window, ppm; None as `named_ion_images`.
        seed: For t-SNE and UMAP.

    Raises:
        InputError: an unknown kind, or a damaged file.
    """
    mz = None if kind in (IONS, *METHODS) else ion_of(kind)
    msi = open_msi(sample.imzml)
    msi.verify_checksum()
    images, region = own_peak_images(msi)[0], measured_region(msi, sample.msi_roi)
    components = None
    if kind == IONS:
        components = component_images(np.sqrt(images), region, COMPONENTS)
        picture = project(np.sqrt(images), msi.mask, seed=seed)
    elif mz is None:
        picture = project(np.sqrt(images), msi.mask, method=kind, seed=seed)
    else:
        picture = np.sqrt(named_ion_images(msi, [mz], ion_ppm))
    tissue = tissue_from_ions(images, region)
    return _of_msi(kind, sample, msi, picture, components, tissue)


def overview_pictures(sample: Sample, *, ions: int = 8) -> list[MovingImage]:
    """Makes several pictures of a section in one reading of its imzML.

    Args:
        sample: The section.
        ions: How many of its peaks are shown, those that are strongest in its region.

    Returns:
        The total ion count (kind `tic`), the PCA view, and the ions, by m/z.

    Raises:
        InputError: a damaged file.
    """
    msi = open_msi(sample.imzml)
    msi.verify_checksum()
    images, mz = own_peak_images(msi)
    inside = measured_region(msi, sample.msi_roi)
    strongest = np.sort(np.argsort(-images[inside].mean(axis=0), kind="stable")[:ions])
    pictures = {"tic": np.sqrt(tic_image(msi))[..., None]}
    pictures["pca"] = project(np.sqrt(images), msi.mask, method="pca")
    pictures |= {f"ion:{mz[k]:.4f}": np.sqrt(images[..., [k]]) for k in strongest}
    return [_of_msi(kind, sample, msi, each) for kind, each in pictures.items()]


def ion_of(kind: str) -> float:
    """Returns the m/z in `ion:MZ`.

    Raises:
        InputError: not a kind of moving image at all.
    """
    name, _, mz = kind.partition(":")
    try:
        value = float(mz) if name == "ion" else 0.0
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        known = f"synthetic, {IONS}, {', '.join(METHODS)} or ion:MZ"
        raise InputError("--moving", "", f"is {kind!r}", f"one of {known}, such as ion:885.55")
    return value


def _of_msi(
    kind: str,
    sample: Sample,
    msi: MsiFile,
    picture: np.ndarray,
    features: np.ndarray | None = None,
    tissue: np.ndarray | None = None,
) -> MovingImage:
    """Cuts the sample's region out and keeps the measurement's own grid."""
    native = msi_pixel_size_um(msi, sample.msi_um_per_px, sample.msi_um_per_px_y)
    region = measured_region(msi, sample.msi_roi)
    x, y, w, h = sample.msi_roi or (0, 0, msi.shape[1], msi.shape[0])
    box = slice(y, y + h), slice(x, x + w)
    um = np.asarray(native, np.float64)
    picture = np.where(region[..., None], picture, 0)[box]
    if features is None:
        features = picture.astype(np.float32)
    else:
        features = np.where(region[..., None], features, 0)[box].astype(np.float32)
    sizes = sample.msi_um_per_px, sample.msi_um_per_px_y
    warnings = tuple(msi_warnings(msi, *sizes, sample.msi_roi))
    frame = {"um_per_px": um, "origin_um": um * (y, x), "native_um": um}
    tissue = None if tissue is None else tissue[box]
    return MovingImage(
        kind, picture, features, region[box], **frame, warnings=warnings, tissue=tissue
    )
