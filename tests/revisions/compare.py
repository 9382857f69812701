"""Runs two revisions on one machine over a tiny cohort and compares everything that they write.

    python tests/revisions/compare.py OLD [NEW] [--keep=FOLDER]

OLD is a commit; NEW a commit, or the working tree where it is absent. Both get the same files, made
by OLD: profile and centroid spectra, one section mirrored, one with a region in GeoJSON, one file
cut into ranges. Shards, provenance, weights after 20 steps, transforms, synthetic images and scores
must be equal bit for bit; `renamed.json` beside this file maps keys of OLD to keys of NEW, and
`ignored.json` lists what may differ, with the reason. Exit code 1: something differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

from cohort import SIZES, make_cohort
from differences import compare_folders

ROOT = pathlib.Path(__file__).resolve().parents[2]
DRIVER = pathlib.Path(__file__).with_name("drive.py")
TINY = ["--config.model.features=4", "--config.train.steps=20", "--config.train.steps_per_call=5"]
TINY += ["--config.train.eval_every=10", "--config.train.checkpoint_every=10"]
TINY += ["--config.train.image_every=10", "--config.train.batch_size=2"]
SMALL_GAN = ["--config.model.depth=5", "--config.discriminator.features=4"]


@contextlib.contextmanager
def checked_out(revision: str | None):
    """Yields a folder with the files of a revision; the working tree's own where it is None."""
    if revision is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory(prefix="revision-") as folder:
        tree = pathlib.Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), revision], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


class Revision:
    """Runs the verbs of one revision, in its own processes and folder."""

    def __init__(self, tree: pathlib.Path, out: pathlib.Path, range_bytes: int):
        self._tree, self._out = tree, out
        variables = {"PYTHONPATH": str(tree), "JAX_PLATFORMS": "cpu"}
        variables |= {"RANGE_BYTES": str(range_bytes), "MSI2HE_CACHE": str(out / ".jax_cache")}
        self._environment = os.environ | variables
        out.mkdir(parents=True)

    def __call__(self, verb: str, *words: str) -> None:
        """Runs `verb`; its output is shown only where it fails."""
        command = [sys.executable, str(DRIVER), verb, *words]
        options = {"cwd": self._out, "env": self._environment, "text": True}
        done = subprocess.run(command, capture_output=True, **options)
        if done.returncode:
            sys.exit(f"{self._tree.name}: {verb} {' '.join(words)}\n{done.stdout}\n{done.stderr}")


def run_line(run: Revision, cohort: pathlib.Path) -> None:
    """Runs the line: every path whose result the redesign must not change."""
    for spectra in ("profile", "centroid"):
        manifest = f"--manifest={cohort / spectra / 'manifest.csv'}"
        run("preprocess", manifest, f"--out=pairs_{spectra}", "--peaks=12")
    manifest = f"--manifest={cohort / 'profile' / 'manifest.csv'}"
    run("preprocess", manifest, "--out=pairs_paper", "--peaks=12", "--preset=paper")
    for name, more in (("pix2pix", SMALL_GAN), ("unet", [])):
        config = f"--config={ROOT / 'configs' / 'smoke.py'}:{name}"
        data = "--config.data.dir=pairs_profile"
        run("train", config, f"--workdir={name}", data, *TINY, *more)
        run("evaluate", f"--run={name}", "--data=pairs_profile")
    imzml = sorted((cohort / "profile" / "imzml").glob("*.imzML"))[0]
    run("synthesize", "--run=pix2pix", "--data=pairs_profile", "--out=synthetic")
    run("synthesize", "--run=pix2pix", f"--imzml={imzml}", "--out=synthetic_new")
    register = ["register", manifest, "--split=all"]
    run(*register, "--moving=pca", "--out=automatic")
    run(*register, "--moving=pca", "--deformable", "--out=deformable")
    run(*register, "--moving=pca", "--method=control-points", "--out=control_points")
    run(*register, "--moving=pca", "--method=given", "--init=automatic", "--out=given")


def main() -> int:
    """Runs both revisions; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new", nargs="?")
    parser.add_argument("--keep", type=pathlib.Path, help="A new folder to leave the files in.")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = options.keep or stack.enter_context(tempfile.TemporaryDirectory())
        place = pathlib.Path(place).resolve()
        old, new = (stack.enter_context(checked_out(r)) for r in (options.old, options.new))
        range_bytes = make_cohort(place / "cohort", old, SIZES)
        for name, tree in (("old", old), ("new", new)):
            run_line(Revision(tree, place / name, range_bytes), place / "cohort")
        found = compare_folders(place / "old", place / "new")
    print("\n".join(found) or "equal: everything that both revisions wrote")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
