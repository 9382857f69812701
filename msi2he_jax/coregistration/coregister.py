"""Aligns one section to its slide: the one way for register, for training pairs and from Python."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from msi2he_jax.coregistration import chain, scoring
from msi2he_jax.coregistration.chain import Via
from msi2he_jax.coregistration.section_pair import SectionPair
from msi2he_jax.coregistration.section_pictures import grids_of
from msi2he_jax.errors import InputError
from msi2he_jax.registration.automatic import (
    SCALE_SD,
    UNKNOWN_SCALE,
    UNKNOWN_SCALE_SD,
    AffineResult,
    Pair,
    register_cohort,
)
from msi2he_jax.registration.control_points import Fit
from msi2he_jax.registration.deformable import DeformableResult, register_deformable
from msi2he_jax.registration.evidence import Evidence, read_evidence
from msi2he_jax.registration.export import TransformRecord
from msi2he_jax.registration.point_prior import PointPrior
from msi2he_jax.registration.scores import smoothness
from msi2he_jax.registration.summary import sample_row
from msi2he_jax.registration.transforms import Transform, decompose
from msi2he_jax.registration.uncertainty import Uncertainty, estimate_uncertainty
from msi2he_jax.registration.verdict import RELIABLE, Verdict, verdict_of, wrong_size_words

AUTOMATIC, CONTROL_POINTS, GIVEN = "automatic", "control-points", "given"
WRONG_SIZES = (0.5, 2.0)  # as pixel sizes come to be wrong: every second line or column
METHODS = (AUTOMATIC, CONTROL_POINTS, GIVEN)
_OF_SEARCH = ("score", "gap")
_OF_FIELD = ("inverse_consistency_um", "kept_affine")


@dataclasses.dataclass(frozen=True, eq=False)
class CoregisterOptions:
    """How a section is aligned.

    Attributes:
        method: `automatic` never sees a landmark, `control-points` fits those of use `fit`,
            `given` takes `start` as it is.
        metric: What the images are compared by: a name in `registration.similarity.METRICS`; None:
            `explained` where all ions move, else `mi`.
        points: What a person marked, MSI to histology, with a stated error: a soft prior; or None.
        start: A guess to search around, MSI to histology; None searches everywhere.
        via: A scan that the MSI is tied to and that is aligned in its place; or None.
        scale_sd: How well the ratio of both pixel sizes is known, where the metric asks for it:
            standard deviation of its log; None: 0.03, or 0.2 with `unknown_scale`.
        unknown_scale: Searches scales from 0.8 to 1.25: a pixel size is a guess.
        deformable: Bends what was found further into place.
        stiffness: Factor on the smoothness penalty of bending.
        fit: Kind of `control_points.fit_landmarks`: `affine`, `similarity` or `robust`.
        outlier_um: As for `fit_landmarks`, um; None: 3 MSI pixels.
        seed: Of the starting angles.
    """

    method: str = AUTOMATIC
    metric: str | None = None
    start: Transform | None = None
    points: PointPrior | None = None
    via: Via | None = None
    scale_sd: float | None = None
    unknown_scale: bool = False
    deformable: bool = False
    stiffness: float = 1.0
    fit: str = "affine"
    outlier_um: float | None = None
    seed: int = 0

    def __post_init__(self):
        """Refuses what is no method, or lacks what it needs."""
        if self.method not in METHODS:
            raise InputError("method", "", f"{self.method!r} is not one of {', '.join(METHODS)}")
        if self.method == GIVEN and (self.start is None or self.deformable):
            raise InputError("method", "", "given takes a start as it is, and bends nothing")
        for name in ("points", "via"):
            if self.method != AUTOMATIC and getattr(self, name) is not None:
                raise InputError(name, "", f"needs method automatic, not {self.method}")
        if self.scale_sd is not None and not 0 < self.scale_sd < np.inf:
            raise InputError("scale_sd", "", f"{self.scale_sd} is not a positive number")

    @property
    def words(self) -> str:
        """What a transform found so is said to be."""
        first = {AUTOMATIC: f"automatic {self.metric}", CONTROL_POINTS: f"{self.fit} fit"}
        return first.get(self.method, self.method)


@dataclasses.dataclass(frozen=True, eq=False)
class Coregistered:
    """A section in the frame of its slide.

    Attributes:
        pair: What was aligned.
        options: How.
        transform: MSI to histology, between the frames of their files.
        fit: What the section's landmarks give, or None.
        search: What the automatic alignment found, or None.
        bent: What the deformable step found, or None.
        fit_warnings: What is odd about the landmarks.
        second: Of a chain, the scan's own alignment to the slide; else None.
    """

    pair: SectionPair
    options: CoregisterOptions
    transform: Transform
    fit: Fit | None = None
    search: AffineResult | None = None
    bent: DeformableResult | None = None
    fit_warnings: tuple[str, ...] = ()
    second: Coregistered | None = None

    @property
    def moving(self) -> str:
        """Which picture was aligned: a kind of moving image, of a chain `scan`."""
        return self.second.moving if self.second else self.pair.moving.kind

    @property
    def method(self) -> str:
        """How it was found, in words."""
        if self.second:
            return f"{self.second.method}, after {self.options.via.method}"
        points = self.options.points
        held = f", {len(points)} points" if points else ""
        bent = ", deformable" if self.options.deformable else ""
        return f"{self.options.words} of {self.pair.moving.kind}{held}{bent}"

    @functools.cached_property
    def warnings(self) -> list[str]:
        """What is odd about landmarks, scan and transform; `pair` has those of its files."""
        scan = self.second.pair.warnings if self.second else []
        points = self.options.points
        said = points.warnings(self.transform) if points else []
        return [*scan, *self.fit_warnings, *scoring.transform_warnings(self.transform), *said]

    @functools.cached_property
    def uncertainty(self) -> Uncertainty:
        """How surely the alignment is known, `[H, W]` on the moving picture; of both steps."""
        if self.second:
            steps = self.second.pair, self.second.transform, self.second.uncertainty
            return chain.combined_uncertainty(self.pair, self.options.via, *steps)
        images = _with_points(self.pair, self.options)
        return estimate_uncertainty(images, self.pair.in_images(self.transform))

    @functools.cached_property
    def evidence(self) -> Evidence:
        """What the images say of the affine; of a chain, those of the scan and the slide."""
        if self.second:
            return self.second.evidence
        return read_evidence(self.pair.images, self.pair.in_images(self.transform).matrix)

    @functools.cached_property
    def verdict(self) -> Verdict:
        """Whether to use the transform, and why not; see `registration.verdict`.

        Where all ions were searched everywhere and the answer is not reliable, the search is made
        again with MSI pixels half and twice as large: a size wrong by 2 is said in the reason.
        """
        found, options = verdict_of(self.evidence), self.options
        everywhere = options.method == AUTOMATIC and options.start is None and not self.second
        if found.word == RELIABLE or not everywhere or options.metric != "explained":
            return found
        factor = _reliable_size(self.pair.images, options)
        if factor is None:
            return found
        stated = self.pair.moving.native_um
        return dataclasses.replace(found, reason=wrong_size_words(stated, factor))

    @functools.cached_property
    def scores(self) -> dict[str, Any]:
        """Returns `score` on the section's own landmarks."""
        return self.score(scoring.known_points(self.pair))

    @property
    def record(self) -> TransformRecord:
        """The transform with its scores and the grids of both pictures, as it is written."""
        return TransformRecord(self.transform, self.method, self.scores, grids_of(self.pair))

    def score(self, points: scoring.Points) -> dict[str, Any]:
        """Scores the transform, with the baselines beside.

        Args:
            points: From `scoring.known_points`.

        Returns:
            Target registration errors on `eval` landmarks (`tre_*`) and other points, as
            `summary.sample_row` names them; the verdict and its evidence; what the transform does,
            what the search said of itself, smoothness, the landmarks' fit, and `tissue_dice`.
        """
        known = scoring.candidates(self.pair, self.transform)
        found = {name: getattr(self.search, name) for name in _OF_SEARCH if self.search}
        found |= {name: getattr(self.bent, name) for name in _OF_FIELD if self.bent}
        if self.options.points:
            found |= self.options.points.as_row(self.transform)
        if self.second:
            found |= chain.as_row(self.options.via, self.second.uncertainty)
        return {
            **sample_row(scoring.score(self.pair, known, points), self.options.method),
            **self.verdict.as_row(),
            **self.evidence.as_row(),
            **decompose(self.transform.matrix),
            **found,
            **smoothness(self.transform),
            **(self.fit.as_row() if self.fit else {}),
            "tissue_dice": scoring.tissue_dice(self.pair, self.transform),
            "msi_um_per_px": float(self.pair.moving.native_um.mean()),
        }


def coregister(pair: SectionPair, options: CoregisterOptions | None = None) -> Coregistered:
    """Aligns a section to its slide.

    Args:
        pair: From `section_pair.section_pair`.
        options: How; None: automatically, from no guess.

    Returns:
        The transform; its scores and its uncertainty are computed when they are asked for.

    Raises:
        InputError: no tissue on the slide, next to nothing measured, or landmarks that determine
            no transform where they have to.
    """
    options = options or CoregisterOptions()
    fit, odd = scoring.fit_where_possible(
        pair,
        needed=options.method == CONTROL_POINTS,
        kind=options.fit,
        outlier_um=options.outlier_um,
        seed=options.seed,
    )
    if options.via:
        return _chained(pair, options, fit, tuple(odd))
    if options.metric is None:
        metric = "explained" if pair.moving.all_ions else "mi"
        options = dataclasses.replace(options, metric=metric)
    search = bent = None
    if options.method == AUTOMATIC:
        transform, search = _search(pair, options)
    else:
        transform = options.start if options.method == GIVEN else Transform(fit.matrix)
    if options.deformable:
        transform, bent = _bend(pair, transform, options)
    return Coregistered(pair, options, transform, fit, search, bent, tuple(odd))


def _chained(pair: SectionPair, options: CoregisterOptions, fit, odd) -> Coregistered:
    """Aligns the scan to the slide, and leads the MSI there by way of it."""
    via = options.via
    start = options.start and via.first.inverse().then(options.start)
    points = options.points and chain.points_on_scan(options.points, via)
    inner = dataclasses.replace(options, via=None, start=start, points=points)
    second = coregister(chain.scan_pair(pair, via), inner)
    options = dataclasses.replace(options, metric=second.options.metric)
    whole = via.first.then(second.transform)
    return Coregistered(pair, options, whole, fit, second.search, second.bent, odd, second)


def _reliable_size(images: Pair, options: CoregisterOptions) -> float | None:
    """The factor on the MSI pixel size, one half or two, that leads to a reliable alignment."""
    for factor in WRONG_SIZES:
        resized = images.resized(factor)
        found = _found(resized, options)
        if verdict_of(read_evidence(resized, found.matrix)).word == RELIABLE:
            return factor
    return None


def _search(pair: SectionPair, options: CoregisterOptions) -> tuple[Transform, AffineResult]:
    images = _with_points(pair, options)
    if options.start is not None:
        images = images.around(pair.in_images(options.start).matrix)
    result = _found(images, options)
    return pair.in_files(Transform(result.matrix)), result


def _found(images: Pair, options: CoregisterOptions) -> AffineResult:
    scales = UNKNOWN_SCALE if options.unknown_scale else (1.0,)
    how = {"metric": options.metric, "seed": options.seed, "scales": scales}
    return register_cohort([images.scaled(_scale_sd(options))], **how)[0]


def _scale_sd(options: CoregisterOptions) -> float:
    if options.scale_sd is not None:
        return options.scale_sd
    return UNKNOWN_SCALE_SD if options.unknown_scale else SCALE_SD


def _with_points(pair: SectionPair, options: CoregisterOptions) -> Pair:
    if options.points is None:
        return pair.images
    return pair.images.holding(options.points.moved(*pair.corners()))


def _bend(pair: SectionPair, affine: Transform, options: CoregisterOptions):
    """Returns the affine with a displacement, or as it was where it was kept; and the result."""
    inner = pair.in_images(affine)
    how = {"metric": options.metric, "stiffness": options.stiffness}
    result = register_deformable(pair.images, inner.matrix, **how)
    found = Transform(inner.matrix, result.displacement)
    # the matrix itself, and not what two moves between frames leave of it
    return Transform(affine.matrix, pair.in_files(found).displacement), result
