"""The flags of preprocess, and the recipe that they ask for."""

from __future__ import annotations

from absl import flags

from msi2he_jax import cli
from msi2he_jax.errors import InputError

FLAGS = cli.new_flags()
flags.DEFINE_string("manifest", None, "The manifest.csv (docs/data_format.md).", flag_values=FLAGS)
flags.DEFINE_string("out", None, "Folder of the data set to write.", flag_values=FLAGS)
flags.DEFINE_enum(
    "preset",
    "recommended",
    ["recommended", "paper"],
    "What the flags below are when not given.",
    flag_values=FLAGS,
)
_NUMBERS = {  # Name: (least, most, help). By default all are the preset's.
    "target_um_per_px": (
        1e-6,
        1e6,
        "Pixel size of all pairs, um; recommended: half the finest MSI pixel. Paper: the longest "
        "side of each pair becomes 256 px.",
    ),
    "mz_min": (1e-6, 1e6, "Start of the mass axis, m/z."),
    "mz_max": (1e-6, 1e6, "End of the mass axis, m/z."),
    "axis_step": (
        1e-6,
        1e6,
        "Bin width: ppm (at m/z 200 for tof and orbitrap; estimated from the spectra if absent), "
        "or Da for fixed_da (paper: 0.01).",
    ),
    "exclude_ppm": (0, 1e6, "How near a peak may lie to an excluded m/z, ppm; 10, at least a bin."),
    "recalibrate_ppm": (1e-3, 1e4, "Largest mass shift that is looked for, ppm; 50."),
    "prominence": (0, 1, "Least prominence of a peak, as a fraction of its height; 0."),
    "min_snr": (0, 1e6, "Least height of a peak over the noise between peaks; 0."),
    "peak_ppm": (1e-3, 1e5, "Half width of the windows of --peak_list, ppm; 15."),
    "reference_mz": (1e-6, 1e6, "m/z of the ion that --normalization=reference divides by."),
    "reference_ppm": (1e-3, 1e5, "How far from it signal counts, ppm; 20."),
    "max_fdr": (1e-6, 1, "Keeps annotations of --peak_list with an fdr up to this."),
}
_WHOLE = {
    "peaks": (1, 10_000, "Most peaks; both presets: 50."),
    "smoothing_points": (5, 1001, "Window of --smoothing, an odd number of points; 5."),
    "baseline_points": (3, 1001, "Window of --baseline, an odd number of points; 101."),
    "seed": (0, 2**32 - 1, "For the split and t-SNE or UMAP; 0."),
}
_CHOICES = {
    "axis": (
        "ppm|fixed_da|tof|orbitrap",
        "How bins grow with m/z: by the same ppm, not at all, or as a time-of-flight or Orbitrap "
        "analyser resolves; recommended: ppm, paper: fixed_da.",
    ),
    "rebin": (
        "linear|sum",
        "Interpolate spectra or sum them into bins; recommended: by spectrum type, paper: linear.",
    ),
    "duplicates": ("refuse|first|sum", "Several spectra at one position; refuse."),
    "smoothing": ("none|savgol|gaussian", "Of profile spectra, before rebinning; none."),
    "baseline": (
        "none|snip|tophat|median",
        "Baseline to take from under profile spectra, before rebinning; none.",
    ),
    "recalibrate": (
        "none|sums|lock",
        "Corrects each file's mass shift: against the cohort's peaks, or --lock_mz; none.",
    ),
    "normalization": (
        "none|tic|rms|median|reference",
        "What intensities are divided by, over the full spectrum; recommended: tic, paper: none.",
    ),
    "view": (
        "pca|tsne|umap|auto",
        "Three-channel view, where the manifest names none; auto takes the one that tells most "
        "about the histology; both presets: pca.",
    ),
    "view_fit": (
        "sample|train",
        "Fit views to each sample, or once to the training split (pca, umap); sample.",
    ),
    "padding": ("white|black", "What lies beyond the slide; both presets: white."),
}
_LISTS = {
    "exclude_mz": "m/z of solvent and matrix ions, never peaks.",
    "exclude_background": "Names of known background ions, never peaks; such as dhb,chca,9aa,dan,"
    "desi-positive,desi-negative.",
    "lock_mz": "Lock masses for --recalibrate=lock, m/z.",
}
_SWITCHES = {
    "deisotope": "Leave 13C isotopes of other peaks out; no.",
    "tissue_only": "Choose peaks from spectra on tissue only; recommended: yes, paper: no.",
}
for _name, (_, _, _help) in _NUMBERS.items():
    flags.DEFINE_float(_name, None, _help, flag_values=FLAGS)
for _name, (_, _, _help) in _WHOLE.items():
    flags.DEFINE_integer(_name, None, _help, flag_values=FLAGS)
for _name, (_words, _help) in _CHOICES.items():
    flags.DEFINE_enum(_name, None, _words.split("|"), _help, flag_values=FLAGS)
for _name, _help in _LISTS.items():
    flags.DEFINE_list(_name, None, _help, flag_values=FLAGS)
for _name, _help in _SWITCHES.items():
    flags.DEFINE_boolean(_name, None, _help, flag_values=FLAGS)
flags.DEFINE_string(
    "peak_list",
    None,
    "CSV or text file of m/z to take instead of picking peaks (METASPACE annotations, or a column "
    "mz).",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "align",
    "landmarks",
    "How pairs are aligned: by their landmarks; auto (all ions; what the verdict does not "
    "call reliable is refused); or a folder that register wrote.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("workers", 1, "Processes that read files.", flag_values=FLAGS)
flags.DEFINE_string(
    "scheduler",
    None,
    "Address of a Dask scheduler, as tcp://host:8786, whose workers read files instead.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "on_error",
    "raise",
    ["raise", "skip"],
    "Stop at a sample that cannot be used, or leave it out and record it.",
    flag_values=FLAGS,
)
flags.DEFINE_boolean("overwrite", False, "Replace what is in --out.", flag_values=FLAGS)
flags.DEFINE_boolean(
    "force",
    False,
    "Go on with mixed spectrum types, polarities or m/z ranges, and take patients whose names are "
    "alike as several.",
    flag_values=FLAGS,
)

# Flags that are named otherwise in the recipe.
_IN_RECIPE = {
    "axis": "axis_kind",
    "rebin": "method",
    "peak_ppm": "listed_ppm",
    "exclude_background": "background",
}


def check(values: flags.FlagValues, args: list[str]) -> None:
    """Refuses flags that are missing, out of range, or contradict each other."""
    cli.no_positional(args)
    cli.require(values, "manifest", "out")
    cli.require_range(values, "workers", 1, 1024)
    if values.scheduler and values["workers"].present:
        hint = "the cluster's own workers do the work"
        raise InputError("--workers", "", "does not go with --scheduler", hint)
    for name, (least, most, _) in {**_NUMBERS, **_WHOLE}.items():
        cli.require_range(values, name, least, most)
    if None not in (values.mz_min, values.mz_max) and values.mz_min >= values.mz_max:
        raise InputError("--mz_min", "", f"is {values.mz_min:g}, not below --mz_max")
    for name in ("smoothing_points", "baseline_points"):
        if values[name].value is not None and values[name].value % 2 == 0:
            raise InputError(f"--{name}", "", f"is {values[name].value}, must be odd")
    if values.view == "tsne" and values.view_fit == "train":
        hint = "fit pca or umap, or --view_fit=sample"
        raise InputError("--view", "", "tsne cannot be fitted to the training split", hint)
    needs = {"lock_mz": ("recalibrate", "lock"), "reference_mz": ("normalization", "reference")}
    for name, (other, word) in needs.items():
        if (values[other].value == word) != (values[name].value is not None):
            raise InputError(f"--{name}", "", f"goes with --{other}={word}", "give both or neither")


def recipe_of_flags(values: flags.FlagValues):
    """Returns the recipe that the flags ask for."""
    from msi2he_jax.data.recipe import make_recipe
    from msi2he_jax.io_safety import existing_folder

    if values.align not in ("landmarks", "auto"):
        existing_folder(values.align, "--align")
    names = [*_NUMBERS, *_WHOLE, *_CHOICES, *_SWITCHES]
    changes = {_IN_RECIPE.get(name, name): values[name].value for name in names}
    del changes["max_fdr"]  # Of the list, not of the recipe.
    for name in ("exclude_mz", "lock_mz"):
        changes[name] = _numbers(name, values[name].value)
    if values.exclude_background:
        from msi2he_jax.msi.background import ions

        changes["background"] = tuple(values.exclude_background)
        for name in values.exclude_background:
            ions(name)  # Refuses unknown names before anything is read.
    if values.peak_list:
        from msi2he_jax.msi.peak_list import read_peak_list

        listed = read_peak_list(values.peak_list, max_fdr=values.max_fdr)
        changes |= {"listed_mz": tuple(listed.mz.tolist()), "listed_names": listed.names}
        if listed.windows is not None:
            changes["listed_windows"] = tuple(map(tuple, listed.windows.tolist()))
    align = values.align if values.align in ("landmarks", "auto") else "given"
    return make_recipe(values.preset, **changes, align=align, force=values.force)


def _numbers(name: str, words: list[str] | None) -> tuple[float, ...] | None:
    try:
        return None if words is None else tuple(float(word) for word in words)
    except ValueError:
        text = ",".join(words)
        raise InputError(f"--{name}", "", f"{text!r} are not m/z", "as in 279.09,283.26") from None
