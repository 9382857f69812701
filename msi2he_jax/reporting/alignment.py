"""How well MSI and slide were brought together: errors, failures, checkerboards."""

from __future__ import annotations

from typing import Any

from msi2he_jax.histology import read_histology
from msi2he_jax.json_schema import is_number
from msi2he_jax.registration.verdict import count_verdicts
from msi2he_jax.reporting import figures
from msi2he_jax.reporting.html import (
    Markup,
    bullets,
    figure,
    image,
    join,
    missing,
    number,
    paragraph,
    plot,
    table,
    tag,
)
from msi2he_jax.reporting.records import Registration

MOST_OVERLAYS = 6
# Name in summary.json, heading, decimals; those that no sample has are left out.
COLUMNS = (
    ("tre_median_um", "TRE median (um)", 1),
    ("tre_p90_um", "TRE 90 % (um)", 1),
    ("tre_median_msi_px", "TRE median (MSI px)", 2),
    ("truth_tre_median_um", "to the truth (um)", 1),
    ("control_points_tre_median_um", "control points (um)", 1),
    ("initial_tre_median_um", "centred only (um)", 1),
)
METHODS = {
    "tre_median_um": "found",
    "control_points_tre_median_um": "control points",
}


def alignment_section(registration: Registration | None) -> Markup:
    """Returns table, plot and overlays of a registration, or a sentence where there is none."""
    if registration is None:
        how = "Run: python -m msi2he_jax.register, and pass its folder as --registration=DIR"
        return missing("No registration was given.", how)
    samples = registration.samples
    if not samples:
        return missing("The registration's summary.json lists no sample.")
    said = registration.summary.get("warnings", [])
    warnings = join([tag("h3", "Warnings"), bullets(said)]) if said else ""
    parts = [_words(registration), _cautions(registration), warnings]
    parts += [_table(samples), _plot(samples), _overlays(registration)]
    return join(part for part in parts if part)


def _cautions(registration: Registration) -> Markup:
    said = registration.summary.get("cautions", [])
    return join([tag("h3", "Do not use as it is"), bullets(said)]) if said else Markup("")


def _words(registration: Registration) -> Markup:
    summary, samples = registration.summary, registration.samples
    known = [s["success"] for s in samples if s.get("success") is not None]
    text = f"{len(samples)} sections were registered to their slides"
    text += f", method {summary['method']}" if summary.get("method") else ""
    text += f", from the {summary['moving']} image" if summary.get("moving") else ""
    if known:
        means = summary.get("success_means") or "as register defines it"
        text += f"; success ({means}): {sum(known)} of {len(known)}"
    said = count_verdicts(s.get("verdict") for s in samples)
    counts = ", ".join(f"{count} {word}" for word, count in said.items() if count)
    text += f"; by their own images: {counts}" if counts else ""
    where = (
        "TRE is the target registration error on landmarks that no fit has seen; 'to the truth' is "
        "the error over all tissue against the simulator's own transform, where there is one. "
        "'Control points' is the affine of the fit landmarks, 'centred only' no registration."
    )
    forced = summary.get("forced") is True
    if forced:
        where += " Some sections may have trained the generator (--force): their errors mean less."
    return join([paragraph(text + "."), paragraph(where, class_="note")])


def failed(sample: dict[str, Any]) -> bool:
    """Returns whether a sample is counted as a failure."""
    return sample.get("success") is False


def _table(samples: list[dict[str, Any]]) -> Markup:
    shown = [c for c in COLUMNS if any(is_number(sample.get(c[0])) for sample in samples)]
    columns = ["sample", *(heading for _, heading, _ in shown), "result"]
    rows = [
        [
            s["sample_id"],
            *(number(s.get(name), digits) for name, _, digits in shown),
            _result(s),
        ]
        for s in samples
    ]
    return table("Registration errors, one row a section.", columns, rows)


def _result(sample: dict[str, Any]) -> str | None:
    words = [{True: "success", False: "failure"}.get(sample.get("success")), sample.get("verdict")]
    words += ["caution"] if sample.get("caution") else []
    return ", ".join(filter(None, words)) or None


def _plot(samples: list[dict[str, Any]]) -> Markup:
    known = [s for s in samples if is_number(s.get("tre_median_um"))]
    if not known:
        return Markup("")
    names = [s["sample_id"] for s in known]
    errors = {
        method: [float(s[name]) if is_number(s.get(name)) else None for s in known]
        for name, method in METHODS.items()
    }
    bad = [failed(s) for s in known]
    alt = "Median registration error of each sample; the numbers are in the table above."
    drawn = plot(lambda look: figures.errors_by_sample(names, errors, bad, look), alt)
    return figure(drawn, "Median TRE of each section on held-out landmarks.")


def _overlays(registration: Registration) -> Markup:
    found = []
    for sample in registration.samples:
        name = sample["sample_id"]
        path = registration.overlay(name)
        if path and len(found) < MOST_OVERLAYS:
            pixels = read_histology(path, um_per_px=1.0).pixels
            png = figures.raster(pixels, longest_px=420)
            alt = (
                f"Checkerboard of {name}: fields of the slide and of the registered image by turns."
            )
            found.append(figure(image(png, alt), f"{name}: {_short(sample)}"))
    if not found:
        return missing("No overlay picture was found in the registration's folder.")
    words = (
        "Checkerboards: fields of the slide alternate with the registered image. Structures that "
        "run on across the edges of the fields are aligned."
    )
    if registration.summary.get("moving") == "synthetic":
        words += " The registered image is SYNTHETIC: it is no stained tissue."
    grid = tag("div", *found, class_="panels")
    return join([tag("h3", "Overlays"), paragraph(words), grid])


def _short(sample: dict[str, Any]) -> str:
    error = number(sample.get("tre_median_um"), 1)
    return f"median TRE {error} um" + (", failure" if failed(sample) else "")
