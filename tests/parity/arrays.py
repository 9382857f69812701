"""What the recording script and the tests share: cases, and arrays both make from a name.

Arrays come from integer arithmetic alone, so they are the same in every version of every library
and need no storing.
"""

import math
import zlib

import numpy as np

GENERATORS = {
    "unet5": dict(name="unet_pix2pix", depth=5, in_channels=6, features=4, size=(32, 32), batch=2),
    "unet8": dict(
        name="unet_pix2pix", depth=8, in_channels=12, features=4, size=(256, 256), batch=1
    ),
    "unet7_instance": dict(
        name="unet_pix2pix",
        depth=7,
        in_channels=5,
        features=4,
        size=(256, 128),
        batch=1,
        norm="instance",
    ),
    "unet6_none": dict(
        name="unet_pix2pix",
        depth=6,
        in_channels=2,
        features=4,
        size=(64, 128),
        batch=2,
        norm="none",
    ),
    "resnet9": dict(name="resnet", blocks=9, in_channels=6, features=4, size=(32, 24), batch=2),
    "resnet6_instance": dict(
        name="resnet",
        blocks=6,
        in_channels=3,
        features=4,
        size=(16, 32),
        batch=1,
        norm="instance",
        dropout=0.0,
    ),
}
DISCRIMINATORS = {
    **{
        f"patch{n}": dict(n_layers=n, in_channels=6, features=4, size=(size, size), batch=2)
        for n, size in enumerate((16, 32, 64, 64, 128, 128))
    },
    "patch3_instance": dict(
        n_layers=3, in_channels=6, features=4, size=(70, 93), batch=1, norm="instance"
    ),
}
GAN = dict(
    generator=dict(name="unet_pix2pix", depth=5, in_channels=3, features=2),
    discriminator=dict(n_layers=3, in_channels=3, features=2),
    size=(32, 32),
    batch=2,
    steps=10,
    learning_rate=2e-4,
    betas=(0.5, 0.999),
    l1_weight=100.0,
)
# The same with the rate falling after half of the epochs (stepped at their start), and with a rate
# of its own for the discriminator.
GAN_EXACT = GAN | dict(steps=8, steps_per_epoch=2, d_learning_rate=3e-4, schedule_form="exact")
# The paper's baseline, smaller: rate, moments and epsilon are those of configs/unet.py.
UNET = dict(
    depth=2, in_channels=3, features=4, size=(16, 24), batch=4, steps=10, learning_rate=0.01
)
UNET |= dict(betas=(0.9, 0.999), eps=1e-7)
UNET_FIXED = UNET | dict(depth=1, steps=8, steps_per_epoch=2, schedule_form="fixed")
UPDATES = 3


def uniform(name, shape):
    """Numbers in [0, 1) that depend on `name` alone, float64: splitmix64 of a counter."""
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        x = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 32)
        x *= np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return ((x >> np.uint64(11)) * 2.0**-53).reshape(shape)


def parameter(case, name, shape):
    """The value of `name` in PyTorch's layout: weights of unit gain, statistics off their start."""
    centred = math.sqrt(12.0) * (uniform(f"{case}/{name}", shape) - 0.5)
    if name.endswith("running_var"):
        return 1.0 + 0.25 * np.abs(centred)
    if len(shape) == 4:
        return centred / math.sqrt(math.prod(shape[1:]))
    offset = 1.0 if name.endswith("weight") else 0.0
    return offset + 0.1 * centred


def images(name, batch, size, channels):
    """`[B, H, W, C]` in [0, 1), smooth enough to have structure."""
    fine = uniform(name, (batch, *size, channels))
    coarse = uniform(name + "/coarse", (batch, -(-size[0] // 8), -(-size[1] // 8), channels))
    coarse = coarse.repeat(8, 1).repeat(8, 2)[:, : size[0], : size[1]]
    return 0.3 * fine + 0.7 * coarse


def digest(array, count=64):
    """Some elements of an array, then its norm and its product with a fixed random vector."""
    flat = np.asarray(array, np.float64).ravel()
    picks = (uniform("picks", (min(count, flat.size),)) * flat.size).astype(int)
    projection = flat @ (uniform("projection", flat.shape) - 0.5)
    return np.concatenate([flat[picks], [np.linalg.norm(flat), projection]])
