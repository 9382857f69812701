"""pix2pix as published: U-Net 256 and PatchGAN 70, L1 weight 200, learning rate 2e-5.

Source:    Isola et al. 2017 and its PyTorch code: architecture, Adam(0.5, 0.999), batch 1, images
           enlarged to 286 px and cropped at random to 256, flipped left-right, 200 epochs of which
           the second half decays linearly to 0, dropout on at test time. L1 weight and rate are
           those of the DESI/H&E paper.
Assumed:   whole images of 256 px: the paper's text lost the size. 200 epochs (78 pairs: 15,600
           steps): the paper trained "until converged", the original has this number.
           Other than the original: validation every 390 steps (5 epochs of 78 pairs) chooses the
           checkpoint, and ends the run where 10 of them after the decay began bring nothing better;
           images of other sizes are enlarged as much in proportion; the slide is resampled by area
           before it is enlarged bicubically, and the MSI is enlarged in floating point, not in 8
           bits; at test time all images share a dropout mask, which makes a run repeatable.
           evaluate reports the scores without dropout as well; --noconfig.test.dropout_at_test
           makes them the run's own.
Command:   python -m msi2he_jax.train --config=configs/pix2pix.py --workdir=runs/pix2pix
Hardware:  not yet measured at full size
Time:      not yet measured at full size
Expected:  docs/results.md has an earlier form of it, small and short, on simulated data (the paper:
           MI 1.349, SSIM 0.949 on 111 pairs that are not redistributed: not comparable)
"""

from msi2he_jax.config import default_config


def get_config():
    """Returns the configuration."""
    config = default_config()
    config.name = "pix2pix"
    config.data.augment = "mirror"
    config.augmentation.jitter = 30 / 256
    config.optimizer.learning_rate = 2e-5
    config.optimizer.schedule = "linear"
    config.loss.lambda_l1 = 200.0
    config.train.batch_size = 1
    config.train.epochs = 200
    config.train.steps = 15_600  # 200 epochs of 78 pairs; the epochs decide
    config.train.eval_every = 390
    config.train.patience = 10
    config.test.dropout_at_test = True
    return config
