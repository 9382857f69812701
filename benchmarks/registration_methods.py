"""Ways to register a pair, ours and others', each from the same pictures to matrix and field.

SimpleITK and elastix get both pictures on 256 px canvases centred on the tissue, levelled to ranks
as ours are, one channel (the first). Their fixed image is the MSI, so that their transform maps
points as ours does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.registration_pairs import Case
from msi2he_jax.registration import automatic, control_points, deformable, transforms
from msi2he_jax.registration.scores import identity_alignment
from msi2he_jax.registration.transforms import Displacement, Transform

CANVAS_PX = 256


def identity(cases: Sequence[Case]) -> list[Transform]:
    """Lays tissue centre on tissue centre."""
    return [identity_alignment(c.pair.moving.center_um, c.pair.fixed.center_um) for c in cases]


def control_point_affine(cases: Sequence[Case]) -> list[Transform]:
    """Fits the `fit` landmarks: what a person with a good hand would get."""
    return [
        Transform(control_points.estimate_affine(c.fit_msi_yx_um, c.fit_histology_yx_um))
        for c in cases
    ]


def ours_affine(cases: Sequence[Case]) -> list[Transform]:
    """Our search, the cohort in batches."""
    found = automatic.register_cohort([case.pair for case in cases])
    return [Transform(result.matrix) for result in found]


def ours_deformable(cases: Sequence[Case]) -> list[Transform]:
    """Our search, then the velocity field."""
    matrices = [affine.matrix for affine in ours_affine(cases)]
    bent = deformable.deform_cohort([case.pair for case in cases], matrices)
    return [Transform(m, result.displacement) for m, result in zip(matrices, bent)]


def canvases(case: Case) -> tuple[np.ndarray, np.ndarray, float, np.ndarray, np.ndarray]:
    """Draws both sides as others take them.

    Returns:
        MSI and slide `[256, 256]` float32, um per pixel, and the positions `[2]` (y, x), um, of
        their canvases' corners.
    """
    drawn = automatic.draw_pair(case.pair, CANVAS_PX)
    msi, slide = drawn["values"][0] * drawn["mask"], drawn["fixed"][0]
    radius = case.pair.radius_um
    corners = case.pair.moving.center_um - radius, case.pair.fixed.center_um - radius
    return msi, slide, 2 * radius / CANVAS_PX, *corners


def _sitk_images(case: Case):
    import SimpleITK as sitk

    msi, slide, um, *corners = canvases(case)
    images = []
    for picture, corner in zip((msi, slide), corners):
        image = sitk.GetImageFromArray(picture.astype(np.float32))
        image.SetSpacing((um, um))
        image.SetOrigin(tuple((corner + um / 2)[::-1]))
        images.append(image)
    return images


def _sitk_from(case: Case, images, degrees: float, mirrored: bool):
    """Mattes mutual information from one start; returns the metric (lower is better), matrix."""
    import SimpleITK as sitk

    start = transforms.swap_xy(transforms.rotation(degrees, mirrored=mirrored))[:2, :2]
    affine = sitk.AffineTransform(2)
    affine.SetMatrix(start.ravel().tolist())
    middle, target = case.pair.moving.center_um[::-1], case.pair.fixed.center_um[::-1]
    affine.SetCenter(middle.tolist())
    affine.SetTranslation((target - middle).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.2, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetInitialTransform(affine, inPlace=True)
    try:
        method.Execute(*images)
    except RuntimeError:  # it gives up where too few samples overlap
        return np.inf, None
    linear = np.asarray(affine.GetMatrix()).reshape(2, 2)
    offset = np.asarray(affine.TransformPoint((0.0, 0.0)))
    matrix = transforms.swap_xy(transforms.from_parts(linear, offset))
    return method.GetMetricValue(), matrix


def sitk_starts(angles: int, mirrorings: Sequence[bool]) -> Callable:
    """Returns SimpleITK from several starts, the best of which by its own metric counts."""

    def register(cases: Sequence[Case]) -> list[Transform]:
        found = []
        for case in cases:
            images = _sitk_images(case)
            tried = [
                _sitk_from(case, images, 360.0 * k / angles, mirrored)
                for mirrored in mirrorings
                for k in range(angles)
            ]
            _, best = min(tried, key=lambda each: each[0])
            found.append(identity([case])[0] if best is None else Transform(best))
        return found

    return register


def elastix(cases: Sequence[Case]) -> list[Transform]:
    """Runs itk-elastix: affine, then B-spline, with elastix' default parameter maps."""
    return [_elastix_one(case) for case in cases]


def _elastix_one(case: Case) -> Transform:
    import itk

    msi, slide, um, *corners = canvases(case)
    images = []
    for picture, corner in zip((msi, slide), corners):
        image = itk.GetImageFromArray(np.ascontiguousarray(picture, np.float32))
        image.SetSpacing((um, um))
        image.SetOrigin(tuple((corner + um / 2)[::-1].tolist()))
        images.append(image)
    parameters = itk.ParameterObject.New()
    for kind in ("affine", "bspline"):
        levels = parameters.GetDefaultParameterMap(kind, 4, um * CANVAS_PX / 8)
        levels["AutomaticTransformInitialization"] = ["true" if kind == "affine" else "false"]
        levels["AutomaticTransformInitializationMethod"] = ["GeometricalCenter"]
        parameters.AddParameterMap(levels)
    try:
        _, found = itk.elastix_registration_method(*images, parameter_object=parameters)
        with tempfile.TemporaryDirectory() as folder:  # It writes a file wherever it is told to.
            field = itk.transformix_deformation_field(images[1], found, output_directory=folder)
    except RuntimeError:  # too few samples overlap
        return identity([case])[0]
    return _as_field(case, np.asarray(itk.GetArrayFromImage(field))[..., ::-1], um, corners[0])


def _as_field(case: Case, disp_yx: np.ndarray, um: float, corner: np.ndarray) -> Transform:
    """Splits a dense field of displacements into the nearest matrix and what is left."""
    axis = (np.arange(len(disp_yx)) + 0.5) * um
    y, x = corner[0] + axis, corner[1] + axis
    points = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)
    there = points + disp_yx
    known = np.c_[points.reshape(-1, 2), np.ones(points[..., 0].size)]
    solved = np.linalg.lstsq(known, there.reshape(-1, 2), rcond=None)[0]
    matrix = transforms.from_parts(solved[:2].T, solved[2])
    return Transform(matrix, Displacement(y, x, there - transforms.apply_affine(matrix, points)))


# Name in the table -> how, and whether what moves makes a difference to it.
METHODS: dict[str, tuple[Callable[[Sequence[Case]], list[Transform]], bool]] = {
    "identity": (identity, False),
    "control points": (control_point_affine, False),
    "SimpleITK affine, 1 start": (sitk_starts(1, (False,)), True),
    "SimpleITK affine, 12x2 starts": (sitk_starts(12, (False, True)), True),
    "elastix affine + B-spline": (elastix, True),
    "ours affine": (ours_affine, True),
    "ours deformable": (ours_deformable, True),
}
