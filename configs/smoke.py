"""Small enough for a CPU: the whole line in minutes; `smoke.py:pix2pix`, `smoke.py:unet`.

Source:    none; sizes are chosen for speed.
Command:   python -m msi2he_jax.train --config=configs/smoke.py:pix2pix --workdir=runs/smoke
Hardware:  2 CPU cores, no GPU
Time:      benchmarks/results/demo.json: `make demo`, which trains 400 steps instead of 150
Expected:  README.md, "What it scores": the simulated test sections of `make demo`
"""

from msi2he_jax.config import default_config
from msi2he_jax.errors import InputError


def get_config(variant: str = "pix2pix"):
    """Returns the configuration of a variant, `pix2pix` or `unet`."""
    if variant not in ("pix2pix", "unet"):
        raise InputError("configs/smoke.py", "variant", f"is {variant!r}, expected pix2pix or unet")
    config = default_config()
    config.name = "smoke" if variant == "pix2pix" else "smoke_unet"
    config.data.augment = "dihedral"
    config.model.features = 16
    config.optimizer.learning_rate = 1e-3
    config.train.batch_size = 4
    config.train.steps = 150
    config.train.steps_per_call = 20
    config.train.eval_every = 50
    config.train.checkpoint_every = 50
    config.train.image_every = 50
    return _unet(config) if variant == "unet" else _pix2pix(config)


def _pix2pix(config):
    config.ema = 0.98
    config.test.norm_at_test = "running"
    config.model.depth = 6
    config.discriminator.features = 16
    config.discriminator.n_layers = 2
    return config


def _unet(config):
    config.model.name = "unet_ronneberger"
    config.model.depth = 3
    config.model.norm = "none"
    config.model.upsample = "resize"
    config.model.dropout = 0.0
    config.discriminator.name = "none"
    config.loss.reconstruction = "mse"
    config.loss.lambda_l1 = 1.0
    return config
