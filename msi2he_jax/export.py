"""Hands a trained generator to other software.

    python -m msi2he_jax.export --run=RUN --out=FILE.zip                      (StableHLO bundle)
    python -m msi2he_jax.export --run=RUN --format=torch --out=DIR
    python -m msi2he_jax.export --run=RUN --format=onnx --out=FILE.onnx

stablehlo: a zip that needs jax alone to run, with weights, norm mode and provenance inside. torch:
latest_net_G.pth (and, with --which=latest, latest_net_D.pth) for pix2pix' PyTorch code; train
--init_from reads them back, bit for bit. onnx: through jax2onnx, checked with onnxruntime.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags

from msi2he_jax import cli
from msi2he_jax.errors import InputError

FLAGS = cli.new_flags()
flags.DEFINE_string("run", None, "Folder of the trained run.", flag_values=FLAGS)
flags.DEFINE_string("out", None, "File to write; for torch a folder.", flag_values=FLAGS)
flags.DEFINE_enum(
    "format", "stablehlo", ["stablehlo", "torch", "onnx"], "What to write.", flag_values=FLAGS
)
flags.DEFINE_enum("which", "best", ["best", "latest"], "Checkpoint.", flag_values=FLAGS)
flags.DEFINE_integer("height_px", 256, "Rows of the images it will take.", flag_values=FLAGS)
flags.DEFINE_integer("width_px", 256, "Columns of them.", flag_values=FLAGS)
flags.DEFINE_enum(
    "norm",
    None,
    ["batch", "running"],
    "Statistics to normalise with; by default the run's test.norm_at_test.",
    flag_values=FLAGS,
)


def run(values: flags.FlagValues, args: list[str]) -> None:
    """Runs the verb."""
    cli.no_positional(args)
    cli.require(values, "run", "out")
    cli.require_range(values, "height_px", 1, 65_536)
    cli.require_range(values, "width_px", 1, 65_536)
    if values.format == "torch":
        for line in _torch(values):
            print(line)
        return
    from msi2he_jax.inference import load_model
    from msi2he_jax.interop import bundle

    _refuse_folder(Path(values.out))
    model = load_model(values.run, values.which, norm=values.norm)
    cli.warn(model.warnings)
    size = (values.height_px, values.width_px)
    if values.format == "onnx":
        error = bundle.write_onnx(values.out, model, size_px=size)
        print(f"{values.out}: ONNX, one image of {size[0]} x {size[1]} px, within {error:.2g}")
        return
    bundle.write_bundle(values.out, model, size_px=size)
    print(f"{values.out}: StableHLO, any number of images of {size[0]} x {size[1]} px")


def _refuse_folder(out: Path) -> None:
    if out.is_dir():
        raise InputError(out, "--out", "is a folder", "name a file")


def _torch(values: flags.FlagValues) -> list[str]:
    """Writes the networks for PyTorch; says which."""
    from msi2he_jax.interop import torch_checkpoint

    out = Path(values.out)
    if out.is_file():
        raise InputError(out, "--out", "is a file", "name a folder")
    return [
        f"{path}: {count} arrays"
        for path, count in torch_checkpoint.write_run(values.run, values.which, out)
    ]


main = cli.verb(run, FLAGS, __doc__)

if __name__ == "__main__":
    sys.exit(main())
