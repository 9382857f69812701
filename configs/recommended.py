"""What we recommend for a first model: a linear map, the one of configs/linear.py.

Source:    configs/linear.py.
Assumed:   tens of sections. On sections of an independent simulator no network was better than this
           map in all scores (docs/results.md); once a network beats the baseline `ridge 3x3` of
           `evaluate` on patients left out, prefer it: configs/pix2pix_robust.py, configs/unet.py.
Command:   python -m msi2he_jax.train --config=configs/recommended.py --workdir=runs/recommended
Hardware:  2 CPU cores, no GPU
Time:      seconds
Expected:  the baseline `ridge 3x3` of `evaluate`
"""

from msi2he_jax.config import load_config


def get_config():
    """Returns the configuration."""
    config = load_config("linear")
    config.name = "recommended"
    return config
