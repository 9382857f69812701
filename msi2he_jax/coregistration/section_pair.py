"""A section and its slide, read and ready to align."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

from msi2he_jax.coregistration.moving import MovingImage
from msi2he_jax.data.alignment import read_slide
from msi2he_jax.data.manifest import Sample
from msi2he_jax.errors import InputError
from msi2he_jax.histology import require_tissue
from msi2he_jax.registration.landmarks import Landmarks, read_landmarks
from msi2he_jax.registration.slide import Slide, working_slide
from msi2he_jax.registration.transforms import Transform

if TYPE_CHECKING:
    from msi2he_jax.registration.automatic import Pair

SLIDE_PIXELS_PER_MSI_PIXEL = 8.0


@dataclasses.dataclass(frozen=True, eq=False)
class SectionPair:
    """A section's picture and its slide, with what alignment needs of both, made once.

    Attributes:
        sample: The section; named in errors.
        moving: The MSI's picture.
        slide: The slide at working resolution.
    """

    sample: Sample
    moving: MovingImage
    slide: Slide

    @property
    def warnings(self) -> list[str]:
        """What is odd about the files as they were read."""
        return [*self.moving.warnings, *self.slide.warnings]

    @functools.cached_property
    def landmarks(self) -> Landmarks | None:
        """The section's landmarks, if it has any.

        Raises:
            InputError: the file is damaged.
        """
        return read_landmarks(self.sample.landmarks) if self.sample.landmarks else None

    @functools.cached_property
    def images(self) -> Pair:
        """The pair that registration works on, whose frames begin at the pictures' corners.

        Raises:
            InputError: no tissue on the slide, or next to nothing measured.
        """
        # Here, since processes that only follow landmarks would otherwise load jax.
        from msi2he_jax.registration.automatic import make_pair

        moving, slide = self.moving, self.slide
        tissue, known = moving.masks()
        sizes = {"moving_um_per_px": moving.um_per_px, "fixed_um_per_px": slide.um_per_px}
        sizes |= {"moving_valid": known, "moving_confidence": moving.confidence}
        try:
            fixed = slide.channels if moving.all_ions else slide.density
            return make_pair(moving.features, fixed, tissue, slide.tissue, **sizes)
        except InputError as error:
            names = {"moving": self.sample.imzml, "fixed": self.sample.histology}
            path = names.get(error.path, error.path)
            raise InputError(path, error.field, error.why, error.hint) from error

    def in_images(self, transform: Transform) -> Transform:
        """Continues a transform from the imzML's frame to the slide's to those of `images`.

        Args:
            transform: MSI to histology.
        """
        return transform.in_images(self.moving.origin_um, self.slide.origin_um)

    def corners(self) -> tuple[Transform, Transform]:
        """Returns what takes points of the imzML's and the slide's frame to those of `images`."""
        origins = self.moving.origin_um, self.slide.origin_um
        return tuple(Transform().in_images(to_yx=origin) for origin in origins)

    def in_files(self, transform: Transform) -> Transform:
        """Undoes `in_images`.

        Args:
            transform: Between the frames of `images`.

        Returns:
            MSI to histology, in the frames of the files.
        """
        return transform.in_files(self.moving.origin_um, self.slide.origin_um)


def section_pair(sample: Sample, moving: MovingImage) -> SectionPair:
    """Reads a section's slide, `SLIDE_PIXELS_PER_MSI_PIXEL` times as fine as its MSI.

    Args:
        sample: The section.
        moving: The MSI's picture, such as `moving.msi_picture("pca", sample)`.

    Raises:
        InputError: the slide cannot be read, or shows no tissue.
    """
    um = float(moving.native_um.min()) / SLIDE_PIXELS_PER_MSI_PIXEL
    slide = working_slide(read_slide(sample, um), um_per_px=um)
    require_tissue(sample.histology, slide.tissue)
    return SectionPair(sample, moving, slide)
