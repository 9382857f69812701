"""Batches from the device against batches cut on the host:  python -m benchmarks.bench_loader

Both give the same random crops and flips of generated arrays, 50 channels in 16 bits. Where
tensorflow-datasets is there, tables tell how fast pairs are read from ArrayRecord shards, and how
fast batches come that are streamed from them.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import pathlib
import tempfile

import jax
import numpy as np

from benchmarks import harness
from benchmarks.harness import Variant

CHANNELS = 50


def generated(count: int, side: int) -> dict[str, np.ndarray]:
    """Returns the arrays of `count` pairs of `side` px, as `sample_batch` takes them."""
    random = np.random.default_rng(0)
    everywhere = np.ones((count, side, side), bool)
    return {
        "msi": random.integers(0, 65536, (count, side, side, CHANNELS), np.uint16),
        "histology": random.integers(0, 256, (count, side, side, 3), np.uint8),
        "tissue_mask": everywhere,
        "valid_mask": everywhere,
        "extent_px": np.full((count, 2), side, np.int32),
    }


def batches_table(count: int, side: int, batch_size: int) -> dict:
    """Times a batch of crops of three quarters of the side, flipped at random."""
    from msi2he_jax.data.loader import sample_batch

    arrays, crop, steps = generated(count, side), side * 3 // 4, iter(range(10**9))
    on_device = jax.device_put(arrays)
    options = {"seed": 0, "batch_size": batch_size, "crop_px": crop, "flip": True}
    draw = jax.jit(functools.partial(sample_batch, **options))
    random = np.random.default_rng(0)

    def on_host() -> None:
        index, flips = random.integers(0, count, batch_size), random.random((batch_size, 2)) < 0.5
        corners = random.integers(0, side - crop + 1, (batch_size, 2))
        cut = [
            arrays[name][i, y : y + crop, x : x + crop][:: 1 - 2 * up, :: 1 - 2 * over]
            for name in ("msi", "histology")
            for i, (y, x), (up, over) in zip(index, corners, flips.astype(int), strict=True)
        ]
        halves = np.stack(cut[:batch_size]), np.stack(cut[batch_size:])
        jax.block_until_ready(jax.device_put(halves))

    variants = [
        Variant(
            "on the device",
            lambda: jax.block_until_ready(draw(on_device, step=next(steps))),
            batch_size,
        ),
        Variant("cut on the host, copied", on_host, batch_size),
    ]
    return {"unit": "images", "rows": harness.measure(variants)}


def write_pairs(path: pathlib.Path, count: int, side: int) -> None:
    """Writes a data set of random training pairs."""
    from msi2he_jax.data.builder import write_dataset

    random, mask = np.random.default_rng(0), np.ones((side, side), bool)

    def examples():
        for number in range(count):
            yield {
                "sample_id": f"s{number}",
                "group_id": f"g{number}",
                "msi": random.random((side, side, CHANNELS), np.float32),
                "histology": random.integers(0, 256, (side, side, 3), np.uint8),
                "view": random.integers(0, 256, (side, side, 3), np.uint8),
                "msi_mask": mask,
                "tissue_mask": mask,
                "msi_to_histology": np.eye(3),
                "um_per_px": 50.0,
            }

    mz = list(np.linspace(200, 900, CHANNELS))
    provenance = {"format": "msi2he_jax pairs 1", "axis": {}, "rebin": {}, "grid": {}}
    provenance |= {"peaks": {n: mz for n in ("mz", "lower", "upper", "height")}, "pad_value": 255}
    provenance |= {"normalization": "none"}
    provenance |= {"scaling": {"transform": "sqrt", "scale": [1.0] * CHANNELS}}
    write_dataset(path, {"train": examples}, provenance)


def shards_table(count: int, side: int) -> dict:
    """Times reading pairs from ArrayRecord shards, checks and PNG decoding included."""
    from msi2he_jax.data.builder import iterate_split

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "pairs"
        write_pairs(path, count, side)
        read = lambda: sum(1 for _ in iterate_split(path, "train"))  # noqa: E731
        return {"unit": "images", "rows": harness.measure([Variant("ArrayRecord", read, count)])}


def streaming_table(count: int, side: int, batch_size: int) -> dict:
    """Times the batches of `data.loader=device` and `=stream`, flipped at random."""
    from msi2he_jax.data import streaming
    from msi2he_jax.data.loader import load_arrays, sample_batch, vary_batch
    from msi2he_jax.training.parallel import Parallel

    devices, steps = Parallel("jit", tuple(jax.devices()[:1])), iter(range(10**9))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "pairs"
        write_pairs(path, count, side)
        arrays = devices.place(load_arrays(path, "train").device_dict())
        stored = streaming.open_stored(path, "train")
        stream = streaming.Stream(stored, seed=0, batch_size=batch_size)
        options = {"seed": 0, "flip": True}
        draw = jax.jit(functools.partial(sample_batch, batch_size=batch_size, **options))
        vary, place = jax.jit(functools.partial(vary_batch, **options)), iter(range(10**9))

        def streamed() -> None:
            batch = devices.place_parts(stream.batch(next(place)))
            jax.block_until_ready(vary(batch))

        def resident() -> None:
            jax.block_until_ready(draw(arrays, step=next(steps)))

        variants = [
            Variant("on the device", resident, batch_size),
            Variant("streamed from shards", streamed, batch_size),
        ]
        return {"unit": "images", "rows": harness.measure(variants)}


def main(full: bool = False) -> None:
    """Runs the tables and prints where they are stored."""
    count, side, batch = (111, 256, 16) if full else (24, 128, 16)
    tables = {f"random crops of {side} px images, batch {batch}": batches_table(count, side, batch)}
    if importlib.util.find_spec("tensorflow_datasets"):
        tables["pairs of 128 px read from shards"] = shards_table(16, 128)
        title = f"batches of {batch} pairs of 128 px, in memory and streamed"
        tables[title] = streaming_table(2 * batch, 128, batch)
    print(harness.save("loader", tables))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="sizes for a graphics card")
    main(parser.parse_args().full)
