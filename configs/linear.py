"""A straight line from MSI to colours: `ridge`, or `pls` (partial least squares).

Source:    Hoerl and Kennard 1970; Wold 1975, by algorithm 2 of Dayal and MacGregor 1997. A pixel's
           own channels and their mean over 3x3 px, each brought to variance 1.
Assumed:   colours in [0, 1] are fitted by least squares over whole pairs. Penalty, or number of
           components: what predicts training patients best that were left out in turn.
Command:   python -m msi2he_jax.train --config=configs/linear.py --workdir=runs/linear
Hardware:  2 CPU cores, no GPU
Time:      seconds: solved from one pass over the data; its one step only measures the loss
Expected:  the baseline `ridge 3x3` (`pls 3x3`) of `evaluate`
"""

from msi2he_jax.config import default_config
from msi2he_jax.errors import InputError


def get_config(variant: str = "ridge"):
    """Returns the configuration of a variant, `ridge` or `pls`."""
    if variant not in ("ridge", "pls"):
        raise InputError("configs/linear.py", "variant", f"is {variant!r}, expected ridge or pls")
    config = default_config()
    config.name = "linear" if variant == "ridge" else "linear_pls"
    config.data.augment = "none"
    config.model.name = "linear"
    config.model.start = variant
    config.model.norm = "none"
    config.model.dropout = 0.0
    config.discriminator.name = "none"
    config.train.steps = 1
    return config
