"""The paper's baseline: a U-Net, sigmoid output, patches, mean squared error, batch 64, rate 0.01.

Source:    the DESI/H&E paper's baseline: Adam (Keras: eps 1e-7), sigmoid, MSE, "minimal
           modifications" of Ronneberger et al. 2015.
Assumed:   patches of 64 px, drawn at random (the paper's text lost their size), dropout 0.5 at the
           two deepest levels, no normalisation, 3,000 steps (the paper states no length).
Command:   python -m msi2he_jax.train --config=configs/unet.py --workdir=runs/unet
Hardware:  not yet measured
Time:      not yet measured
Expected:  not yet measured (the paper: MI 0.429, SSIM 0.530: not comparable). This rate can
           saturate the sigmoid: a weak baseline; --config.optimizer.learning_rate=3e-4
           --config.loss.reconstruction=l1 is a fairer one.
"""

from msi2he_jax.config import default_config


def get_config():
    """Returns the configuration."""
    config = default_config()
    config.name = "unet"
    config.data.crop_px = 64
    config.data.augment = "none"
    config.model.name = "unet_ronneberger"
    config.model.depth = 4
    config.model.norm = "none"
    config.model.upsample = "resize"
    config.discriminator.name = "none"
    config.loss.reconstruction = "mse"
    config.loss.lambda_l1 = 1.0
    config.optimizer.learning_rate = 0.01
    config.optimizer.b1 = 0.9
    config.optimizer.eps = 1e-7
    config.train.batch_size = 64
    config.train.steps = 3_000
    return config
