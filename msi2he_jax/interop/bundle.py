"""A trained generator as one file that runs without this package: StableHLO, or ONNX.

A bundle is a zip of `generator.stablehlo` (read with `jax.export.deserialize`), `bundle.json` (what
goes in and what comes out), and the run's `config.json` and `provenance.json`, by which new MSI is
prepared as the training data were. `bundle_reading` reads it.
"""

from __future__ import annotations

import os
import zipfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from msi2he_jax import __version__
from msi2he_jax.errors import InputError
from msi2he_jax.inference.model import Model
from msi2he_jax.io_safety import atomic_file
from msi2he_jax.plain_json import json_text

PROGRAM, SHEET = "generator.stablehlo", "bundle.json"
FORMAT = "msi2he_jax bundle 1"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # The same run makes the same bytes.


def write_bundle(
    path: str | os.PathLike,
    model: Model,
    *,
    size_px: tuple[int, int],
    platforms: tuple[str, ...] = ("cpu", "cuda"),
) -> None:
    """Writes a generator as StableHLO, with its weights, norm mode and provenance inside.

    Args:
        path: The `.zip` to write.
        model: As loaded; its norm and dropout modes become part of the program.
        size_px: (H, W) of the images it will take; any number of them at once.
        platforms: What it can run on.

    Raises:
        InputError: the file cannot be written, or a size or platform is no good.
    """
    _check_size(size_px)
    count = jax.export.symbolic_shape("b")[0]
    shape = jax.ShapeDtypeStruct((count, *size_px, model.channels), jnp.float32)
    try:
        exported = jax.export.export(jax.jit(model.apply), platforms=platforms)(shape)
    except (ValueError, NotImplementedError) as error:
        why = f"cannot be exported for {', '.join(platforms)}: {str(error).splitlines()[0]}"
        raise InputError(model.run_dir, "generator", why) from error
    texts = {
        SHEET: sheet(model, size_px, platforms),
        "config.json": model.config.to_dict(),
        "provenance.json": model.provenance,
    }
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        _put(archive, PROGRAM, bytes(exported.serialize()))
        for name, content in texts.items():
            _put(archive, name, json_text(content, indent=2).encode())


def _check_size(size_px: tuple[int, int]) -> None:
    if not all(1 <= side <= 65_536 for side in size_px):
        raise InputError("size_px", "", f"is {size_px[0]} x {size_px[1]}", "from 1 to 65536 px")


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)


def sheet(model: Model, size_px: tuple[int, int], platforms: tuple[str, ...]) -> dict[str, Any]:
    """Says what an exported generator takes and gives, in plain values."""
    height, width = size_px
    return {
        "format": FORMAT,
        "msi2he_jax": __version__,
        "jax": jax.__version__,
        "input": {
            "shape": ["b", height, width, model.channels],
            "dtype": "float32",
            "range": [0.0, 1.0],
            "channels_mz": model.provenance["peaks"]["mz"],
            "scaling": model.provenance["scaling"],
        },
        "output": {"shape": ["b", height, width, 3], "dtype": "float32", "range": [-1.0, 1.0]},
        "norm": model.norm,
        "dropout": model.dropout,
        "step": model.step,
        "which": model.which,
        "platforms": list(platforms),
        "synthetic": "What this program draws is SYNTHETIC, not stained tissue.",
    }


def write_onnx(path: str | os.PathLike, model: Model, *, size_px: tuple[int, int]) -> float:
    """Writes a generator as ONNX through jax2onnx, and checks it with onnxruntime.

    Args:
        path: The `.onnx` file.
        model: As loaded; its norm and dropout modes become part of the graph.
        size_px: (H, W) of the one image it will take.

    Returns:
        Largest difference between onnxruntime's output and ours, on [-1, 1].

    Raises:
        InputError: jax2onnx or onnxruntime is not installed, or does not know the network.
    """
    _check_size(size_px)
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        hint = "docs/fidelity.md says how to install jax2onnx beside this package"
        raise InputError("--format", "onnx", f"needs {error.name}", hint) from error
    shape = (1, *size_px, model.channels)
    msi = np.random.default_rng(0).random(shape, np.float32)
    expected = np.asarray(model.apply(msi))  # Now: jax2onnx changes what is traced later.
    try:
        graph = to_onnx(
            model.apply, inputs=[jax.ShapeDtypeStruct(shape, jnp.float32)], return_mode="proto"
        )
        for name in ("config", "provenance"):
            value = model.config.to_dict() if name == "config" else model.provenance
            graph.metadata_props.add(key=name, value=json_text(value))
        content = graph.SerializeToString()
        session = onnxruntime.InferenceSession(content)
        (drawn,) = session.run(None, {session.get_inputs()[0].name: msi})
    except Exception as error:  # Whatever the converter or the runtime raises, they cannot do it.
        why = f"{model.config.model.name} cannot be converted: {str(error).splitlines()[0][:200]}"
        raise InputError(model.run_dir, "onnx", why, "--format=stablehlo") from error
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
    return float(np.abs(drawn - expected).max())
