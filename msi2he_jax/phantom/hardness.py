"""How hard a simulated cohort is: one table of knobs, each a level in [0, 1].

At level 0 a knob does nothing: the cohort is, bit for bit, what it is without the table. Level 1 is
the worst that is still plausible. A knob acts in one of three ways. `strength`: each section draws
between half of the level and all of it. `share`: the level is the probability that a section has
it. `cohort`: all sections have the same level, since all share one list of ions.
"""

from __future__ import annotations

import dataclasses
import difflib
import math

import numpy as np

from msi2he_jax.errors import InputError

FLAG = "--hardness"


def _knob(acts: str, words: str, worst: str):
    return dataclasses.field(default=0.0, metadata={"acts": acts, "words": words, "worst": worst})


@dataclasses.dataclass(frozen=True)
class Hardness:
    """Levels in [0, 1], one for each knob; the fields' metadata say what a knob does.

    A new knob stands at the end: each section draws once for every knob, in this order.
    """

    rim_ions: float = _knob(
        "cohort",
        "salt ions live on the rim of the tissue; a third of the other ions is brighter there",
        "16 of about 100 ions, as strong as lipids",
    )
    matrix_ions: float = _knob(
        "cohort",
        "matrix clusters are brighter off the tissue than on it, and unevenly sprayed",
        "28 ions, a third of all ions, up to three times as strong as lipids",
    )
    bland_ions: float = _knob(
        "cohort",
        "kinds of tissue look alike to the ions, so that the inside of a section tells less",
        "log contrasts between kinds of tissue shrink to a tenth",
    )
    point_spread: float = _knob(
        "strength",
        "the probe looks at more than one pixel, and the spray carries signal along the line",
        "Gaussian of 2.4 MSI pixels; a quarter of a pixel's signal is washed into the next",
    )
    gain: float = _knob(
        "strength",
        "lines differ in gain, the signal drifts, and each ion drifts in its own way",
        "log standard deviation 0.35 from line to line, 0.6 drift, 0.5 for each ion alone",
    )
    noise: float = _knob(
        "strength",
        "each ion's own noise rises, and weak peaks are lost",
        "log standard deviation 0.85 at full signal; the detection limit eightfold",
    )
    dropouts: float = _knob(
        "strength",
        "the spray stops for a part of a line, now and then for a whole line",
        "12 % of the pixels",
    )
    margin: float = _knob(
        "share",
        "the measured region follows the tissue's outline with a margin instead of a rectangle",
        "every section",
    )
    crop: float = _knob(
        "share",
        "MSI measures a rectangle inside the tissue, so that no outline is in view",
        "every section",
    )
    two_pieces: float = _knob(
        "share",
        "the tissue lies in two pieces; in two of five such sections MSI measures one of them",
        "every section",
    )
    lost_tissue: float = _knob(
        "strength",
        "tissue that MSI measured is gone from the slide: torn corners, holes, strips",
        "a quarter of the area",
    )
    new_tissue: float = _knob(
        "strength",
        "the slide shows tissue that the cut under MSI lacks",
        "a quarter of the area",
    )
    folds: float = _knob(
        "strength", "folds make the slide darker along curves", "three folds, density 2.5-fold"
    )
    pen: float = _knob(
        "share",
        "pen on the slide: black, blue, green or red, beside the tissue and across it",
        "every section, three strokes at most",
    )
    symmetry: float = _knob(
        "strength",
        "the outline is nearly its own mirror image",
        "the smooth outline is symmetric; its ragged edge is not",
    )
    warp: float = _knob(
        "strength",
        "the smooth warp between MSI and slide is larger than --warp-um",
        "4 MSI pixels more, at most a twelfth of the stage",
    )

    def of_section(self, rng: np.random.Generator) -> Hardness:
        """Draws what one section gets of the cohort's levels.

        Args:
            rng: Source of randomness; one draw for each knob, whatever the levels, so that raising
                a level makes sections harder and never changes which ones are hit.

        Returns:
            The section's own levels; 0 or 1 for knobs that act on a share of the sections.
        """
        drawn = {}
        for knob in dataclasses.fields(self):
            dice, level = rng.random(), getattr(self, knob.name)
            acts = knob.metadata["acts"]
            if acts == "strength":
                level *= 0.5 + 0.5 * dice
            elif acts == "share":
                level = float(dice < level)
            drawn[knob.name] = level
        return Hardness(**drawn)


NONE = Hardness()
KNOBS = tuple(knob.name for knob in dataclasses.fields(Hardness))

PRESETS = {
    "none": NONE,
    "usual": Hardness(
        rim_ions=0.3,
        matrix_ions=0.3,
        bland_ions=0.6,
        point_spread=0.35,
        gain=0.25,
        noise=0.2,
        dropouts=0.15,
        margin=0.35,
        crop=0.0,
        two_pieces=0.1,
        lost_tissue=0.15,
        new_tissue=0.1,
        folds=0.3,
        pen=0.2,
        symmetry=0.3,
        warp=0.1,
    ),
    "hard": Hardness(
        rim_ions=0.6,
        matrix_ions=0.6,
        bland_ions=0.8,
        point_spread=0.6,
        gain=0.5,
        noise=0.5,
        dropouts=0.3,
        margin=0.5,
        crop=0.05,
        two_pieces=0.2,
        lost_tissue=0.4,
        new_tissue=0.3,
        folds=0.5,
        pen=0.4,
        symmetry=0.5,
        warp=0.5,
    ),
    "extreme": Hardness(
        rim_ions=1.0,
        matrix_ions=1.0,
        bland_ions=1.0,
        point_spread=1.0,
        gain=1.0,
        noise=1.0,
        dropouts=1.0,
        margin=0.5,
        crop=0.2,
        two_pieces=0.3,
        lost_tissue=1.0,
        new_tissue=1.0,
        folds=1.0,
        pen=0.7,
        symmetry=0.8,
        warp=1.0,
    ),
}


def parse_hardness(text: str) -> Hardness:
    """Reads a preset, levels, or a preset with some levels set anew: `hard,pen=0,warp=1`.

    Args:
        text: Presets and `knob=level`, separated by commas; later ones win. Empty = no knob.

    Returns:
        The levels.

    Raises:
        InputError: a name is unknown or a level is no number in [0, 1].
    """
    levels = NONE
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            levels = _preset(name)
        elif name not in KNOBS:
            raise InputError(FLAG, name, "is no knob", _hint(name, KNOBS))
        else:
            levels = dataclasses.replace(levels, **{name: _level(name, value)})
    return levels


def _preset(name: str) -> Hardness:
    if name in KNOBS:
        raise InputError(FLAG, name, "has no level", f"write {name}=0.5, a level in [0, 1]")
    if name not in PRESETS:
        raise InputError(FLAG, name, "is no preset", _hint(name, tuple(PRESETS)))
    return PRESETS[name]


def _level(name: str, text: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not 0.0 <= level <= 1.0:
        raise InputError(FLAG, name, f"is {text!r}, not a level in [0, 1]")
    return level


def _hint(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def hardness_table() -> str:
    """Writes the table of knobs and presets in Markdown, as docs/simulation.md holds it."""
    head = ["knob", "what it does", "acts by", "at level 1", *list(PRESETS)[1:]]
    rows = [head, ["---"] * len(head)]
    for knob in dataclasses.fields(Hardness):
        said = [f"`{knob.name}`", *(knob.metadata[key] for key in ("words", "acts", "worst"))]
        rows.append(said + [f"{getattr(PRESETS[name], knob.name):g}" for name in head[4:]])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
