"""What a GPU would run, planned and not measured: `python -m benchmarks.bench_gpu_plan`.

XLA compiles for a described GPU without having one: the training step as users run it (the sampler
in it, four steps in one loop), synthesis and metrics. For each program: kernels, bytes that they
move, copies, transposes, what devices exchange, planned memory, and the shortest time that
bandwidth and arithmetic allow. Nothing is run, nothing is autotuned: cuDNN's inner copies and
workspace are not in it, and bytes are not time.

Needs `pip install 'msi2he_jax[gpu]'` (the compiler; no GPU, no driver). A row is one process and is
kept in --out, so a command that was stopped goes on. --save writes
benchmarks/results/gpu-plan.json and docs/gpu_plan.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

from benchmarks.gpu_targets import TARGETS

CHANNELS, PAIRS, LOOP = 50, 111, 4
ENVIRONMENT = {
    "XLA_FLAGS": "--xla_gpu_autotune_level=0",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "JAX_PLATFORMS": "cpu",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A program to plan.

    Attributes:
        what: `step` (four training steps in a loop, figures of one), `synthesis` or `metrics`.
        target: Key of `TARGETS`.
        batch: Images a step, over all GPUs.
        side_px: Side of the images, px.
        dtype: Compute dtype.
        gpus: How many share the batch.
        mode: `jit` or `pmap`.
        remat: As `train.remat`.
        lowering: As `model.lowering`.
    """

    what: str = "step"
    target: str = "h200"
    batch: int = 16
    side_px: int = 256
    dtype: str = "bfloat16"
    gpus: int = 1
    mode: str = "jit"
    remat: str = "none"
    lowering: str = "auto"

    @property
    def key(self) -> str:
        """A file name that tells rows apart."""
        return "-".join(str(value) for value in dataclasses.astuple(self))


ROWS = (
    *(Row(batch=batch) for batch in (1, 4, 16, 64)),
    *(Row(batch=batch, dtype="float32") for batch in (1, 16)),
    *(Row(batch=16, lowering=lowering) for lowering in ("plain", "vjp", "matmul")),
    *(Row(batch=16, side_px=side) for side in (512, 1024)),
    *(Row(batch=64, side_px=512, remat=remat) for remat in ("none", "activations", "networks")),
    *(Row(batch=128, gpus=8, mode=mode) for mode in ("jit", "pmap")),
    *(Row(target=target) for target in ("h100", "a100", "l40s")),
    Row("synthesis", batch=1, side_px=2048),
    Row("metrics", batch=22),
)


def plan(row: Row) -> dict[str, Any]:
    """Compiles a row's program for its target and counts it; in a process of its own."""
    import jax
    from jax.experimental import topologies

    from benchmarks.gpu_program import program_kernels, summarize
    from msi2he_jax.models import flops
    from msi2he_jax.training.parallel import planned_cost

    target = TARGETS[row.target]
    shape = f"1x1x{row.gpus}"
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=target.description(), topology=shape
    )
    jax.default_backend = lambda: "gpu"  # what networks ask to choose their forms by
    compiled, config = _PROGRAMS[row.what](row, tuple(topology.devices))
    kernels = program_kernels(compiled.as_text(), one_turn=row.what == "step")
    facts = planned_cost(compiled) | summarize(kernels)
    facts["bandwidth_ms"] = facts["traffic_gb"] / target.bandwidth * 1e12
    if row.what == "step":
        work = flops.training_step(config.model, config.discriminator, row.side_px)
        facts["gflop"] = work * row.batch / row.gpus / 1e9
        facts["arithmetic_ms"] = facts["gflop"] / target.tflops[row.dtype]
    return dataclasses.asdict(row) | facts


def _configuration(row: Row) -> Any:
    """pix2pix' published widths, and the row's choices."""
    from msi2he_jax.config import load_config

    config = load_config("pix2pix")
    changes = {"model.dtype": row.dtype, "model.lowering": row.lowering}
    changes |= {"model.in_channels": CHANNELS, "train.remat": row.remat, "parallel": row.mode}
    changes["train.batch_size"] = row.batch
    config.update_from_flattened_dict(changes)
    return config


def _step(row: Row, devices: tuple) -> tuple[Any, Any]:
    """Four training steps in a loop, each drawing its batch from the data set on the device."""
    import jax
    import numpy as np

    from msi2he_jax.training.chunk import make_chunk
    from msi2he_jax.training.methods import make_method
    from msi2he_jax.training.parallel import Parallel
    from msi2he_jax.training.preparation import sampler

    config, shared = _configuration(row), Parallel(row.mode, devices)
    method = make_method(config, examples=PAIRS, axis_name=shared.axis_name)
    chunk = make_chunk(method, shared.share(sampler(config)), LOOP)
    seed = jax.ShapeDtypeStruct((), np.uint32)
    inputs = (jax.eval_shape(method.init), _data(row), seed)
    return shared.compile_shapes(chunk, *inputs, platform="cuda"), config


def _data(row: Row) -> dict[str, Any]:
    """Shapes of the training split as it lies on the device."""
    import jax
    import jax.numpy as jnp

    extent = (PAIRS, row.side_px, row.side_px)
    msi = jnp.bfloat16 if row.dtype == "bfloat16" else jnp.float32
    kinds = {
        "msi": ((*extent, CHANNELS), msi),
        "histology": ((*extent, 3), jnp.uint8),
        "tissue_mask": (extent, jnp.bool_),
        "valid_mask": (extent, jnp.bool_),
        "extent_px": ((PAIRS, 2), jnp.int32),
    }
    return {name: jax.ShapeDtypeStruct(*kind) for name, kind in kinds.items()}


def _synthesis(row: Row, devices: tuple) -> tuple[Any, Any]:
    """The generator on one large section, with its own statistics."""
    import jax
    import jax.numpy as jnp

    from msi2he_jax.training.methods import make_method
    from msi2he_jax.training.parallel import Parallel

    config = _configuration(row)
    method = make_method(config)
    params, stats = jax.eval_shape(lambda: method.finish(method.init()))
    msi = jax.ShapeDtypeStruct((row.batch, row.side_px, row.side_px, CHANNELS), jnp.float32)

    def synthesize(params, stats, msi):
        return method.synthesize(params, stats, msi, norm="batch", dropout_key=None)

    shared = Parallel("jit", devices)
    return shared.compile_shapes(synthesize, params, stats, msi, platform="cuda"), config


def _metrics(row: Row, devices: tuple) -> tuple[Any, Any]:
    """All scores of a test split."""
    import jax
    import jax.numpy as jnp

    from msi2he_jax.metrics.evaluation import score_batch
    from msi2he_jax.training.parallel import Parallel

    extent = (row.batch, row.side_px, row.side_px)
    images = jax.ShapeDtypeStruct((*extent, 3), jnp.float32)
    masks = jax.ShapeDtypeStruct(extent, jnp.bool_)
    shared = Parallel("jit", devices)
    inputs = (images, images, masks, masks)
    return shared.compile_shapes(score_batch, *inputs, platform="cuda"), None


_PROGRAMS = {"step": _step, "synthesis": _synthesis, "metrics": _metrics}


def planned(row: Row, folder: pathlib.Path) -> dict[str, Any]:
    """Returns a row's plan; made in a process of its own unless it is kept in `folder`."""
    kept = folder / f"{row.key}.json"
    if not kept.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "benchmarks.bench_gpu_plan", "--row", json.dumps(vars(row))]
        done = subprocess.run(words, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
        last = (done.stderr.strip().splitlines() or [""])[-1]
        text = done.stdout if done.returncode == 0 else json.dumps(vars(row) | {"failed": last})
        kept.write_text(text)
    return json.loads(kept.read_text())


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/gpu_plan"))
    parser.add_argument("--row", type=json.loads, help="one row as JSON; prints its plan")
    parser.add_argument("--only", default="", help="rows whose key holds this")
    parser.add_argument("--save", action="store_true", help="write results and docs/gpu_plan.md")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Plans what is missing; shows and keeps it."""
    options = parse(arguments)
    if importlib.util.find_spec("jax_plugins.xla_cuda13") is None:
        raise SystemExit("the CUDA compiler is missing: pip install 'msi2he_jax[gpu]'")
    if options.row:
        print(json.dumps(plan(Row(**options.row)), indent=1))
        return
    rows = []
    for row in ROWS:
        if options.only in row.key:
            rows.append(planned(row, options.out))
            print(row.key, rows[-1].get("failed") or _short(rows[-1]), flush=True)
    if options.save:
        from benchmarks.gpu_plan_page import save

        save(rows)


def _short(facts: dict[str, Any]) -> str:
    names = ("kernels", "traffic_gb", "other_gb", "planned_gib")
    return ", ".join(f"{name} {facts[name]:.4g}" for name in names if name in facts)


if __name__ == "__main__":
    main()
