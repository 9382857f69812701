"""One HTML file on which a person marks the same places in the MSI and on the slide.

It holds both pictures and needs nothing else: no network, no server.
"""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from msi2he_jax.io_safety import atomic_file
from msi2he_jax.registration.landmarks import Landmarks

TEMPLATE = Path(__file__).with_name("landmark_page.html")
JPEG_QUALITY = 90


def write_landmark_page(
    path: str | os.PathLike,
    sample: str,
    msi: dict,
    histology: dict,
    points: Landmarks | None = None,
) -> None:
    """Writes the page.

    Args:
        path: The HTML file.
        sample: What the page is about.
        msi: From `picture`, of the MSI.
        histology: From `picture`, of the slide.
        points: Landmarks to begin with, or None.
    """
    data = {"sample": sample, "msi": msi, "histology": histology, "points": _points(points)}
    # "</script>" in a name would end the data: JSON may write any "<" as an escape
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    page = TEMPLATE.read_text(encoding="utf-8").replace("__DATA__", text, 1)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def picture(pixels: np.ndarray, um_per_px, origin_um, *, lossless: bool) -> dict:
    """Describes a picture for the page.

    Args:
        pixels: `[H, W, 3]` uint8.
        um_per_px: Pixel size, um; one number or (y, x).
        origin_um: (y, x) of its outer corner in its frame, um.
        lossless: PNG rather than JPEG.

    Returns:
        A mapping that JSON can hold, x first.
    """
    buffer = io.BytesIO()
    kind = "png" if lossless else "jpeg"
    options = {} if lossless else {"quality": JPEG_QUALITY}
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format=kind.upper(), **options)
    um = np.broadcast_to(np.asarray(um_per_px, np.float64), 2)
    return {
        "src": f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}",
        "um": um[::-1].tolist(),
        "origin": np.asarray(origin_um, np.float64)[::-1].tolist(),
        "w": pixels.shape[1],
        "h": pixels.shape[0],
    }


def _points(points: Landmarks | None) -> list[dict]:
    if points is None:
        return []
    columns = (points.name, points.use, points.msi_yx_um, points.histology_yx_um)
    return [
        {"name": str(name), "use": str(use), "msi": [x, y], "histology": [u, v]}
        for name, use, (y, x), (v, u) in zip(*columns, strict=True)
    ]
