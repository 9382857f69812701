"""pix2pix for speed and steadier images: bfloat16, batch 16, averaged weights, running statistics.

Source:    networks, losses and L1 weight as configs/pix2pix.py; the learning rate grows with the
           square root of the batch (Adam), 2e-5 * 4. Otherwise than there: images are not enlarged
           and cropped, turns and flips of every kind, 10,000 steps at a constant rate (160,000
           images, ten times as many as 200 epochs of 78), no patience, no dropout at test time.
Command:   python -m msi2he_jax.train --config=configs/pix2pix_fast.py --workdir=runs/pix2pix_fast
Hardware:  meant for one GPU; not yet measured
Time:      not yet measured
Expected:  not yet measured
"""

from msi2he_jax.config import default_config


def get_config():
    """Returns the configuration."""
    config = default_config()
    config.name = "pix2pix_fast"
    config.ema = 0.999
    config.data.augment = "dihedral"
    config.model.dtype = "bfloat16"
    config.loss.lambda_l1 = 200.0
    config.optimizer.learning_rate = 8e-5
    config.train.batch_size = 16
    config.train.steps = 10_000
    config.train.steps_per_call = 100
    config.test.norm_at_test = "running"
    return config
