#!/usr/bin/env bash
# Builds the wheel, installs it in a fresh environment and runs the whole line in an empty folder.
# usage: tests/wheel.sh PYTHON    (python3.11, python3.12, python3.13; `make matrix` runs all three)
set -euo pipefail
unset PYTHONPATH  # else pip finds the checkout and installs nothing
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
tag=$("$python" -c 'import sys; print("py%d%d" % sys.version_info[:2])')

"$python" -m venv "$place/venv"
pip=("$place/venv/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" wheel --no-deps --wheel-dir "$place/wheel" "$root"
"${pip[@]}" install --constraint "$root/constraints/$tag.txt" "$place"/wheel/*.whl
mkdir "$place/empty" && cd "$place/empty"
msi2he=$place/venv/bin/msi2he
tiny=(--config.data.dir=pairs --config.model.features=4 --config.train.steps=4
    --config.train.steps_per_call=2 --config.train.eval_every=2 --config.train.checkpoint_every=2
    --config.train.image_every=2)

"$msi2he" --help
"$msi2he" simulate --out=cohort --sections=6 --grid=16 --histology-um-per-px=12.5
"$msi2he" doctor cohort/manifest.csv
"$msi2he" preprocess --manifest=cohort/manifest.csv --out=pairs --peaks=12
"$msi2he" train --config=smoke --workdir=run --config.model.depth=5 "${tiny[@]}"
# The published spelling, outside of a checkout.
"$place/venv/bin/python" -m msi2he_jax.train --config=configs/smoke.py:unet --workdir=unet "${tiny[@]}"
"$msi2he" evaluate --run=run --data=pairs
"$msi2he" synthesize --run=run --data=pairs --out=synthetic
"$msi2he" register --manifest=cohort/manifest.csv --moving=synthetic --run=run --out=registration
"$msi2he" report --run=run --compare=unet --registration=registration --out=report.html
"$place/venv/bin/python" -m msi2he_jax --version
test -s report.html
echo "$tag: the wheel ran the whole line in an empty folder"
