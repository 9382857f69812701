"""Synthetic H&E from mass spectrometry imaging, and the registration it makes possible.

The names below are the public ones; each is imported from its module when first used, so that
importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "InputError": "errors",
    "PreparedCohort": "preprocess",
    "MassAxis": "msi.spectra",
    "ApplyOptions": "interop.transform_files",
    "Transform": "registration.transforms",
    "apply_transform": "registration.transforms",
    "build_discriminator": "models",
    "CoregisterOptions": "coregistration.coregister",
    "SectionPair": "coregistration.section_pair",
    "build_generator": "models",
    "coregister": "coregistration.coregister",
    "msi_picture": "coregistration.moving",
    "section_pair": "coregistration.section_pair",
    "corrected_mutual_information": "metrics.information",
    "default_config": "config",
    "evaluate_run": "evaluate",
    "estimate_affine": "registration.control_points",
    "ion_images": "msi.images",
    "load_arrays": "data.loader",
    "load_config": "config",
    "load_model": "inference",
    "make_recipe": "data.recipe",
    "mass_axis": "msi.spectra",
    "msi_arrays": "data.pairs",
    "mutual_information": "metrics.information",
    "normalized_mutual_information": "metrics.information",
    "open_msi": "msi.open_msi",
    "pick_peaks": "msi.spectra",
    "preprocess_cohort": "preprocess",
    "project": "msi.projection",
    "psnr": "metrics.similarity",
    "read_histology": "histology",
    "read_landmarks": "registration.landmarks",
    "read_manifest": "data.manifest",
    "read_split": "data.builder",
    "read_transform": "registration.export",
    "rebin": "msi.spectra",
    "register_affine": "registration.automatic",
    "structural_similarity": "metrics.similarity",
    "structural_similarity_map": "metrics.similarity",
    "summed_spectrum": "msi.spectra",
    "synthesize_tiled": "inference",
    "target_registration_error": "registration.scores",
    "tissue_mask": "histology",
    "train_and_evaluate": "training.loop",
    "train_model": "train",
    "transform_annotations": "interop.transform_files",
    "transform_file": "interop.transform_files",
    "transform_points": "interop.transform_files",
    "warp_image": "registration.transforms",
    "write_image": "interop.write_image",
    "write_ome_tiff": "interop.ome_tiff",
    "write_transform": "registration.export",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
