"""Every key of a training configuration, its default and what it may be."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

CHOICES = {
    "parallel": ("jit", "pmap"),
    "statistics": ("all", "device"),
    "data.loader": ("auto", "device", "stream"),
    "data.augment": ("none", "mirror", "flip", "dihedral"),
    "data.padding": ("provenance", "white", "black"),
    "model.name": ("unet_pix2pix", "resnet", "unet_ronneberger", "linear"),
    "model.start": ("none", "ridge", "pls"),
    "model.norm": ("batch", "instance", "none"),
    "model.upsample": ("deconv", "resize"),
    "model.lowering": ("auto", "plain", "vjp", "matmul"),
    "model.dtype": ("float32", "bfloat16", "float64"),
    "discriminator.name": ("patchgan", "none"),
    "discriminator.norm": ("batch", "instance", "none"),
    "loss.gan": ("vanilla", "lsgan", "wgangp"),
    "loss.reconstruction": ("l1", "mse"),
    "optimizer.schedule": ("constant", "linear"),
    "optimizer.schedule_form": ("exact", "fixed"),
    "train.remat": ("none", "activations", "networks"),
    "train.best_metric": (
        "mi_corrected_nats",
        "nmi",
        "mi_nats",
        "mae_masked",
        "mae",
        "psnr_masked_db",
        "psnr_db",
        "r2_masked",
        "r2",
        "stain_h_correlation",
        "stain_e_correlation",
        "ssim_masked",
        "ssim",
        "ms_ssim",
    ),
    "test.norm_at_test": ("batch", "running"),
}
# Inclusive bounds. What takes a float may be given as a whole number too.
RANGES = {
    "seed": (0, 2**31 - 1),
    "ema": (0.0, 0.999999),
    "data.crop_px": (0, 65_536),
    "augmentation.jitter": (0.0, 1.0),
    "augmentation.rotation_deg": (0.0, 180.0),
    "augmentation.scaling": (0.0, 1.0),
    "augmentation.elastic_px": (0.0, 65_536.0),
    "augmentation.elastic_cell_px": (2.0, 65_536.0),
    "augmentation.channel_gain": (0.0, 2.0),
    "augmentation.channel_dropout": (0.0, 0.99),
    "augmentation.noise_additive": (0.0, 1.0),
    "model.in_channels": (0, 100_000),
    "model.depth": (1, 9),
    "model.features": (1, 4_096),
    "model.dropout": (0.0, 0.99),
    "model.blocks": (0, 64),
    "model.neighbours_px": (1, 63),
    "discriminator.features": (1, 4_096),
    "discriminator.n_layers": (0, 5),
    "discriminator.scales": (1, 4),
    "loss.lambda_gan": (0.0, 1e6),
    "loss.lambda_l1": (0.0, 1e6),
    "loss.gradient_penalty": (0.0, 1e6),
    "loss.feature_matching": (0.0, 1e6),
    "loss.pyramid_levels": (1, 8),
    "loss.background_weight": (0.0, 1.0),
    "flow.features": (1, 1_024),
    "flow.depth": (1, 8),
    "flow.smoothness": (0.0, 1e6),
    "flow.learning_rate": (0.0, 1e3),
    "optimizer.learning_rate": (1e-12, 1e3),
    "optimizer.d_learning_rate": (0.0, 1e3),
    "optimizer.b1": (0.0, 0.999999),
    "optimizer.b2": (0.0, 0.9999999),
    "optimizer.eps": (1e-30, 1.0),
    "optimizer.decay_from": (0.0, 1.0),
    "optimizer.weight_decay": (0.0, 1e3),
    "train.steps": (1, 10**9),
    "train.epochs": (0, 10**6),
    "train.batch_size": (1, 65_536),
    "train.microbatches": (1, 65_536),
    "train.steps_per_call": (1, 100_000),
    "train.eval_every": (1, 10**9),
    "train.checkpoint_every": (1, 10**9),
    "train.image_every": (1, 10**9),
    "train.patience": (0, 10**6),
}

# Options that no configuration, benchmark or measured gain spoke for (docs/results.md), with their
# values when off: configurations of earlier runs may still hold them so.
REMOVED = {
    "augmentation.noise_multiplicative": 0.0,
    "augmentation.shear_deg": 0.0,
    "augmentation.translation_px": 0.0,
    "diffaugment.color": 0.0,
    "diffaugment.cutout": 0.0,
    "diffaugment.translation": 0.0,
    "discriminator.spectral_norm": False,
    "loss.r1": 0.0,
    "loss.r1_every": 1,
    "loss.tissue_power": 0.0,
}

# Words for keys whose name does not say it all.
NOTES = {
    "ema": "decay of the generator's moving average; 0 = off",
    "data.padding": "of the data: whatever preprocess chose, or only white, or only black",
    "data.loader": "training pairs in device memory, or streamed from disk; auto goes by size",
    "augmentation.jitter": "enlarged by this part, cropped at random; pix2pix: 0.1171875 (286 px)",
    "augmentation.scaling": "0.1: from 1/1.1 to 1.1",
    "augmentation.elastic_px": "largest displacement of a knot; at most a fifth of elastic_cell_px",
    "augmentation.channel_gain": "spread of the logarithm of each channel's gain",
    "model.start": "the linear map that a network adds to, or that model.name=linear is",
    "model.neighbours_px": "odd; side of the square whose mean that map sees, too; 1 = none",
    "discriminator.scales": "discriminators, each on images half as large",
    "loss.feature_matching": "weight; pix2pixHD: 10; 0 = off",
    "loss.pyramid_levels": "mean of the loss over images halved 0, 1, ... times; 1 = plain",
    "loss.background_weight": "of pixels outside the tissue in the reconstruction loss; 1 = plain",
    "flow.enabled": "register synthetic to real images while training",
    "flow.smoothness": "weight, relative to loss.lambda_l1",
    "flow.learning_rate": "0 = the generator's",
    "train.remat": "what gradients compute again to save memory: all but convolutions, or all",
    "train.microbatches": "parts of a batch, one after the other; batch norm sees a part at a time",
    "statistics": "batch norm over the whole batch, or (pmap) each device over its own part",
    "train.epochs": "instead of train.steps: each of examples // batch_size steps; 0 = steps; "
    "train.steps on a command line sets it to 0",
    "train.patience": "evaluations without a better score before stopping, counted from where the "
    "rate begins to fall; 0 = never",
    "train.best_metric": "validation score that chooses the checkpoint, named as in results.json: "
    "|".join(CHOICES["train.best_metric"]),
}


def default_config() -> ConfigDict:
    """Returns every section and key, with pix2pix' values; the comments say what they mean."""
    return ConfigDict(
        {
            "name": "pix2pix",  # names the default workdir, runs/NAME
            "seed": 0,  # the only source of randomness
            "init_from": "",  # a pix2pix PyTorch checkpoint to begin with; see train --init_from
            "parallel": "jit",  # how several devices share a batch
            "statistics": "all",  # batch norm over the whole batch; device: each over its own part
            "ema": 0.0,  # decay of the generator's moving average; 0 = off
            "data": _data(),
            "augmentation": _augmentation(),
            "model": _model(),
            "discriminator": _discriminator(),
            "loss": _loss(),
            "flow": _flow(),
            "optimizer": _optimizer(),
            "train": _train(),
            "test": {"norm_at_test": "batch", "dropout_at_test": False},
        }
    )


def _data() -> dict[str, Any]:
    return {
        "dir": "data/pairs",
        "loader": "auto",  # device: all in memory; stream: read as they come; auto: by size
        "crop_px": 0,  # side of random crops; 0 = whole images
        # mirror: left-right; flip: also up-down; dihedral: also turns by 90 degrees
        "augment": "flip",
        # preprocess pads; white or black: refuses data that were padded otherwise
        "padding": "provenance",
    }


def _augmentation() -> dict[str, Any]:
    """Random, on the device, MSI and histology alike; all off. See `data.augmentation`."""
    return {
        "jitter": 0.0,  # enlarged by this part and cropped at random; pix2pix: 30 / 256
        "rotation_deg": 0.0,  # either way
        "scaling": 0.0,  # 0.1 is from 1/1.1 to 1.1
        "elastic_px": 0.0,  # largest displacement of a knot of a smooth warp ...
        "elastic_cell_px": 64.0,  # ... and the distance of its knots
        "channel_gain": 0.0,  # spread of the logarithm of each channel's gain
        "channel_dropout": 0.0,  # probability that a channel is zero
        "noise_additive": 0.0,  # spread, full range 1
    }


def _discriminator() -> dict[str, Any]:
    return {
        "name": "patchgan",  # none: train on the reconstruction loss alone
        "features": 64,
        "n_layers": 3,  # 3 sees 70 x 70 px
        "norm": "batch",
        "conditional": True,  # whether it sees the MSI beside the image
        "scales": 1,  # discriminators, each on images half as large as the one before
    }


def _loss() -> dict[str, Any]:
    return {
        "gan": "vanilla",
        "lambda_gan": 1.0,
        "lambda_l1": 100.0,  # weight of the reconstruction loss, whichever it is
        "reconstruction": "l1",  # l1 on [-1, 1]; mse on [0, 1], as Keras has it
        "gradient_penalty": 10.0,  # wgangp only
        "feature_matching": 0.0,  # weight; pix2pixHD: 10
        "pyramid_levels": 1,  # mean of the loss over images halved 0, 1, ... times
        "background_weight": 1.0,  # of pixels outside the tissue, in the reconstruction loss
    }


def _flow() -> dict[str, Any]:
    """A network that registers synthetic to real images while training (RegGAN)."""
    return {
        "enabled": False,
        "features": 32,
        "depth": 4,  # halvings
        "smoothness": 0.5,  # weight, relative to lambda_l1
        "learning_rate": 0.0,  # 0 = the generator's
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
        "start": "none",  # ridge, pls: a fitted linear map, plus what the network adds to it
        "neighbours_px": 3,  # side of the square whose mean the linear map sees beside the pixel
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
        "weight_decay": 0.0,  # decoupled, as AdamW: times the rate, off every parameter
    }


def _train() -> dict[str, Any]:
    return {
        "steps": 20_000,
        "epochs": 0,  # instead of steps: each of examples // batch_size steps; 0 = steps
        "batch_size": 1,
        "microbatches": 1,  # parts of the batch, one after the other: less memory, one more forward
        "remat": "none",  # activations, networks: computed again in the gradient: less memory
        "steps_per_call": 50,  # steps without a word to the host: one call (on CPU: several calls)
        "eval_every": 1_000,
        "checkpoint_every": 1_000,
        "image_every": 1_000,
        "patience": 0,  # evaluations without a better score, once the rate falls; 0 = never
        "best_metric": "mi_corrected_nats",  # chooses the checkpoint; why: docs/training.md
    }
