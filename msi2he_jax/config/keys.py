"""Every key of a training configuration, its default and what it may be."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

CHOICES = {
    "parallel": ("jit", "pmap"),
    "data.augment": ("none", "flip", "dihedral"),
    "data.padding": ("provenance", "white", "black"),
    "model.name": ("unet_pix2pix", "resnet", "unet_ronneberger"),
    "model.norm": ("batch", "instance", "group", "none"),
    "model.upsample": ("deconv", "resize"),
    "model.lowering": ("auto", "plain", "vjp", "matmul"),
    "model.dtype": ("float32", "bfloat16", "float64"),
    "discriminator.name": ("patchgan", "none"),
    "discriminator.norm": ("batch", "instance", "group", "none"),
    "loss.gan": ("vanilla", "lsgan", "hinge", "wgangp"),
    "loss.reconstruction": ("l1", "mse"),
    "optimizer.schedule": ("constant", "linear"),
    "optimizer.schedule_form": ("exact", "fixed"),
    "train.best_metric": ("ssim_masked", "ssim", "mae_masked", "mae"),
    "test.norm_at_test": ("batch", "running"),
}
# Inclusive bounds. What takes a float may be given as a whole number too.
RANGES = {
    "seed": (0, 2**31 - 1),
    "ema": (0.0, 0.999999),
    "data.crop_px": (0, 65_536),
    "model.in_channels": (0, 100_000),
    "model.depth": (1, 9),
    "model.features": (1, 4_096),
    "model.dropout": (0.0, 0.99),
    "model.blocks": (0, 64),
    "discriminator.features": (1, 4_096),
    "discriminator.n_layers": (0, 5),
    "loss.lambda_gan": (0.0, 1e6),
    "loss.lambda_l1": (0.0, 1e6),
    "loss.gradient_penalty": (0.0, 1e6),
    "optimizer.learning_rate": (1e-12, 1e3),
    "optimizer.d_learning_rate": (0.0, 1e3),
    "optimizer.b1": (0.0, 0.999999),
    "optimizer.b2": (0.0, 0.9999999),
    "optimizer.eps": (1e-30, 1.0),
    "optimizer.decay_from": (0.0, 1.0),
    "train.steps": (1, 10**9),
    "train.batch_size": (1, 65_536),
    "train.steps_per_call": (1, 100_000),
    "train.eval_every": (1, 10**9),
    "train.checkpoint_every": (1, 10**9),
    "train.image_every": (1, 10**9),
    "train.patience": (0, 10**6),
}


def default_config() -> ConfigDict:
    """Returns every section and key, with pix2pix' values; the comments say what they mean."""
    return ConfigDict(
        {
            "name": "pix2pix",  # names the default workdir, runs/NAME
            "seed": 0,  # the only source of randomness
            "init_from": "",  # a pix2pix PyTorch checkpoint to begin with; see train --init_from
            "parallel": "jit",  # how several devices share a batch
            "ema": 0.0,  # decay of the generator's moving average; 0 = off
            "data": _data(),
            "model": _model(),
            "discriminator": {
                "name": "patchgan",  # none: train on the reconstruction loss alone
                "features": 64,
                "n_layers": 3,  # 3 sees 70 x 70 px
                "norm": "batch",
                "conditional": True,  # whether it sees the MSI beside the image
            },
            "loss": {
                "gan": "vanilla",
                "lambda_gan": 1.0,
                "lambda_l1": 100.0,  # weight of the reconstruction loss, whichever it is
                "reconstruction": "l1",  # l1 on [-1, 1]; mse on [0, 1], as Keras has it
                "gradient_penalty": 10.0,  # wgangp only
            },
            "optimizer": _optimizer(),
            "train": _train(),
            "test": {"norm_at_test": "batch", "dropout_at_test": False},
        }
    )


def _data() -> dict[str, Any]:
    return {
        "dir": "data/pairs",
        "crop_px": 0,  # side of random crops; 0 = whole images
        "augment": "flip",  # flip: left-right, up-down; dihedral: also turns by 90 degrees
        "padding": "provenance",  # around the histology: as preprocessed, white or black
    }


def _model() -> dict[str, Any]:
    return {
        "name": "unet_pix2pix",
        "in_channels": 0,  # channels of the MSI; 0 = as many as the data have
        "depth": 8,  # halvings: 8 is unet_256, 7 unet_128
        "features": 64,
        "norm": "batch",
        "dropout": 0.5,
        "upsample": "deconv",
        "blocks": 9,  # resnet only
        "dtype": "float32",  # of computation; parameters and losses stay float32
        "lowering": "auto",
    }


def _optimizer() -> dict[str, Any]:
    return {
        "learning_rate": 2e-4,
        "d_learning_rate": 0.0,  # the discriminator's; 0 = the same
        "b1": 0.5,
        "b2": 0.999,
        "eps": 1e-8,
        "schedule": "constant",
        "schedule_form": "exact",  # exact: as PyTorch's code since 2020 (ends at 0); fixed: 1/(n+1)
        "decay_from": 0.5,  # part of the epochs after which `linear` decays
    }


def _train() -> dict[str, Any]:
    return {
        "steps": 20_000,
        "batch_size": 1,
        "steps_per_call": 50,  # steps without a word to the host: one call (on CPU: several calls)
        "eval_every": 1_000,
        "checkpoint_every": 1_000,
        "image_every": 1_000,
        "patience": 0,  # evaluations without a better score before stopping; 0 = never
        "best_metric": "ssim_masked",
    }
