"""What every value of `register`'s summary.json that is read must be, as `summary` writes it.

What may be absent is what older files do not have. What nothing reads is not listed.
"""

from __future__ import annotations

from typing import Any

from msi2he_jax.json_schema import BOOLEAN, NUMBER, TEXT, Maybe

_ROW = {
    "sample_id": TEXT,
    "success?": Maybe(BOOLEAN),
    "verdict?": Maybe(TEXT),
    "caution?": TEXT,
    **{
        f"{name}?": Maybe(NUMBER)
        for name in (
            "tre_median_um",
            "tre_p90_um",
            "tre_median_msi_px",
            "truth_tre_median_um",
            "control_points_tre_median_um",
            "initial_tre_median_um",
        )
    },
}
SUMMARY: dict[str, Any] = {
    "samples": [_ROW],
    "method?": TEXT,
    "moving?": TEXT,
    "success_means?": TEXT,
    "forced?": BOOLEAN,
    "warnings?": [TEXT],
    "cautions?": [TEXT],
}
