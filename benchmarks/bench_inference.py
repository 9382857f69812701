"""Synthesis of a section larger than a tile:  python -m benchmarks.bench_inference

Times `synthesize_tiled` with a generator of random weights: tiles in batches, the next computed
while the last is blended, against the same tiles one by one and each waited for; and whole sections
unpacked, synthesised and written, one after the other and overlapped.
"""

from __future__ import annotations

import argparse
import tempfile
import zlib

import jax
import numpy as np

from benchmarks import harness
from benchmarks.harness import Variant

CHANNELS = 50


def generator(features: int, depth: int, dtype: str):
    """Returns `[B, H, W, K]` -> `[B, H, W, 3]`, compiled, with random weights."""
    from flax import nnx

    from msi2he_jax.models.build import GeneratorConfig, build_generator

    config = GeneratorConfig(CHANNELS, features=features, depth=depth, dtype=dtype)
    graph, state = nnx.split(build_generator(config, rngs=nnx.Rngs(params=0)))

    @jax.jit
    def apply(state, msi):
        modes = {"train": False, "norm": "running", "dropout_key": None}
        return nnx.merge(graph, state)(msi, **modes)

    return lambda msi: apply(state, msi)


def table(side: int, tile: int, features: int, depth: int, dtype: str) -> dict:
    """Times one section of `side` px in tiles of `tile` px that overlap by an eighth."""
    from msi2he_jax.inference.tiled import synthesize_tiled

    apply = generator(features, depth, dtype)
    msi = np.random.default_rng(0).random((side, side, CHANNELS), np.float32)
    options = {"tile_px": tile, "overlap_px": tile // 8}
    megapixels = side**2 / 1e6

    def waited(batch):
        return jax.block_until_ready(apply(batch))

    variants = [
        Variant(
            "batches of 4, overlapped",
            lambda: synthesize_tiled(apply, msi, **options, batch_size=4),
            megapixels,
        ),
        Variant(
            "batches of 4, each waited for",
            lambda: synthesize_tiled(waited, msi, **options, batch_size=4),
            megapixels,
        ),
        Variant(
            "one by one, each waited for",
            lambda: synthesize_tiled(waited, msi, **options, batch_size=1),
            megapixels,
        ),
    ]
    return {"unit": "megapixels", "rows": harness.measure(variants, rounds=3)}


def sections_table(side: int, tile: int, features: int, depth: int, dtype: str) -> dict:
    """Times four sections from compressed bytes to pictures on the disk."""
    from msi2he_jax.inference import prefetch, synthesize_tiled, to_uint8
    from msi2he_jax.interop.ome_tiff import write_ome_tiff
    from msi2he_jax.interop.png import write_png

    apply, count = generator(features, depth, dtype), 4
    stored = zlib.compress(np.random.default_rng(0).random((side, side, CHANNELS), np.float32), 1)

    def sections():
        for _ in range(count):
            flat = np.frombuffer(zlib.decompress(stored), np.float32)
            yield flat.reshape(side, side, CHANNELS)

    def paint(msi):
        options = {"tile_px": tile, "overlap_px": tile // 8, "batch_size": 4}
        return to_uint8(synthesize_tiled(apply, msi, **options))

    def write(pixels) -> None:
        marks = {"um_per_px": 10.0, "synthetic": True, "description": ""}
        with tempfile.TemporaryDirectory() as folder:
            write_png(f"{folder}/a.png", pixels, **marks)
            write_ome_tiff(f"{folder}/a.ome.tiff", pixels, **marks)

    def overlapped() -> None:
        with prefetch.written_behind(lambda _: None) as submit:
            for msi in prefetch.read_ahead(sections()):
                submit(write, paint(msi))

    def in_turn() -> None:
        for msi in sections():
            write(paint(msi))

    work = count * side**2 / 1e6
    variants = [Variant("overlapped", overlapped, work), Variant("in turn", in_turn, work)]
    return {"unit": "megapixels", "rows": harness.measure(variants, rounds=3)}


def main(full: bool = False) -> None:
    """Runs the tables and prints where they are stored."""
    size = (2048, 256, 64, 8, "bfloat16") if full else (512, 128, 16, 7, "float32")
    title = "synthesis of {} px in tiles of {} px, {} features".format(*size)
    jobs = {title: lambda: table(*size)}
    jobs["sections of 512 px read, synthesised, written"] = lambda: sections_table(512, *size[1:])
    print(harness.save("inference", *harness.run_tables(jobs)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="sizes for a graphics card")
    main(parser.parse_args().full)
