"""pix2pix as published: U-Net 256 and PatchGAN 70, L1 weight 200, learning rate 2e-5.

Source:    Isola et al. 2017 (architecture, Adam(0.5, 0.999), batch 1); the weights and rates are
           those of the DESI/H&E paper.
Assumed:   whole images of 256 px and 20,000 steps: the paper trained "until converged" and its text
           lost the size.
Command:   python -m msi2he_jax.train --config=configs/pix2pix.py --workdir=runs/pix2pix
Hardware:  not yet measured at full size
Time:      not yet measured at full size
Expected:  docs/results.md has it, small and short, on simulated data (the paper: MI 1.349,
           SSIM 0.949 on 111 pairs that are not redistributed: not comparable)
"""

from msi2he_jax.config import default_config


def get_config():
    """Returns the configuration."""
    config = default_config()
    config.name = "pix2pix"
    config.optimizer.learning_rate = 2e-5
    config.loss.lambda_l1 = 200.0
    config.train.batch_size = 1
    config.train.steps = 20_000
    return config
