"""The report as one page, put together from its parts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from msi2he_jax import __version__
from msi2he_jax.json_schema import is_number
from msi2he_jax.reporting import html
from msi2he_jax.reporting.alignment import alignment_section
from msi2he_jax.reporting.panels import Panel, panels_section
from msi2he_jax.reporting.progress import curves_section, timings_section
from msi2he_jax.reporting.records import Registration, RunRecord
from msi2he_jax.reporting.scores import scores_section
from msi2he_jax.reporting.sections import data_section, header, peaks_section, setup_section


def report_page(
    run: RunRecord,
    *,
    others: Sequence[RunRecord] = (),
    registration: Registration | None = None,
    panels: Sequence[Panel] = (),
    why_no_panels: str = "",
) -> str:
    """Returns the HTML of a report; parts that are missing are said to be.

    Args:
        run: The run it is about.
        others: Runs to set beside it in the tables.
        registration: What `register` left, or None.
        panels: Test samples to show.
        why_no_panels: Said where there are none.
    """
    view = run.provenance.get("view") or "pca"
    sections = [
        ("Test samples", panels_section(panels, why_no_panels, view)),
        ("Scores", scores_section(run, others)),
        ("Registration", alignment_section(registration)),
        ("Data", data_section(run)),
        ("Peaks", peaks_section(run)),
        ("Training", curves_section(run)),
        ("Timings", timings_section(run)),
        ("Versions and configuration", setup_section(run)),
    ]
    footer = html.paragraph(f"Made by msi2he_jax {__version__} report from {run.path}.")
    top = header(run, _median_tre_um(registration))
    return html.page(f"msi2he_jax report: {run.name}", top, sections, footer)


def _median_tre_um(registration: Registration | None) -> float | None:
    samples = registration.samples if registration else []
    errors = [s["tre_median_um"] for s in samples if is_number(s.get("tre_median_um"))]
    return statistics.median(errors) if errors else None
