"""One HTML file on which a person marks the same places in the MSI and on the slide.

It holds both pictures and needs nothing else: no network, no server.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from msi2he_jax.io_safety import atomic_file
from msi2he_jax.plain_json import json_text
from msi2he_jax.registration.landmarks import Landmarks

TEMPLATE = Path(__file__).with_name("landmark_page.html")
SCRIPT = Path(__file__).with_name("landmark_page.js")
JPEG_QUALITY = 90
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'"
)


def saved_name(sample: str) -> str:
    """Returns the name of the file that a section's page saves."""
    return f"{sample}_landmarks.csv"


def write_landmark_page(
    path: str | os.PathLike,
    sample: str,
    msi: Mapping[str, dict],
    histology: dict,
    points: Landmarks | None = None,
) -> None:
    """Writes the page.

    Args:
        path: The HTML file.
        sample: What the page is about.
        msi: From `picture`, pictures of the MSI on one grid, by name; the first is shown first.
        histology: From `picture`, of the slide.
        points: Landmarks to begin with, or None.
    """
    first = next(iter(msi.values()))
    shown = [{"name": name, "src": each["src"]} for name, each in msi.items()]
    data = {"sample": sample, "file": saved_name(sample), "points": _points(points)}
    data |= {"msi": first | {"pictures": shown}, "histology": histology}
    data["key"] = _key(data)
    # "</script>" in a name would end the data: JSON may write any "<" as an escape
    text = json_text(data).replace("<", "\\u003c")
    page = TEMPLATE.read_text(encoding="utf-8")
    page = page.replace("__SCRIPT__", SCRIPT.read_text(encoding="utf-8"), 1)
    page = page.replace("__POLICY__", policy(page), 1).replace("__DATA__", text, 1)
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _key(data: dict) -> str:
    """Names what the browser keeps of a page: another section, slide or start is another page."""
    grid = [data["msi"][name] for name in ("um", "origin", "w", "h")]
    known = [data["sample"], data["points"], grid, data["histology"]]
    return hashlib.sha256(json_text(known).encode()).hexdigest()[:32]


def policy(page: str) -> str:
    """Returns a Content-Security-Policy that lets a page's own scripts run, and nothing else.

    Args:
        page: HTML; pictures may be data, styles are its own.
    """
    scripts = re.findall("<script>(.*?)</script>", page, flags=re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()) for each in scripts]
    allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    return f"{_POLICY}; script-src {allowed}"


def picture(
    pixels: np.ndarray, um_per_px, origin_um, *, lossless: bool, visible: np.ndarray | None = None
) -> dict:
    """Describes a picture for the page.

    Args:
        pixels: `[H, W, 3]` uint8.
        um_per_px: Pixel size, um; one number or (y, x).
        origin_um: (y, x) of its outer corner in its frame, um.
        lossless: PNG rather than JPEG.
        visible: bool `[H, W]`, of a lossless picture: pixels elsewhere are transparent.

    Returns:
        A mapping that JSON can hold, x first.
    """
    buffer = io.BytesIO()
    kind = "png" if lossless else "jpeg"
    options = {} if lossless else {"quality": JPEG_QUALITY}
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if (pixels == pixels[..., :1]).all():
        image = image.convert("L")
    if visible is not None:
        image.putalpha(Image.fromarray(np.where(visible, 255, 0).astype(np.uint8)))
    image.save(buffer, format=kind.upper(), **options)
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
