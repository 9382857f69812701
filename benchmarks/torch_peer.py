"""The same training step in PyTorch, written for comparison: U-Net, PatchGAN, Adam, one step.

Needs torch, which is no dependency of the package; see `bench_train_step --peer=torch`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class UNet(nn.Module):
    """pix2pix' generator: 4x4 kernels, batch norm, dropout in three inner levels, skips."""

    def __init__(self, channels: int, features: int, depth: int):
        super().__init__()
        widths = [features * min(2**level, 8) for level in range(depth)]
        self.depth = depth
        self.downs, self.down_norms = nn.ModuleList(), nn.ModuleList()
        self.ups, self.up_norms = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            inner = channels if level == 0 else widths[level - 1]
            outer = 3 if level == 0 else widths[level - 1]
            double = 1 if level == depth - 1 else 2
            plain = level in (0, depth - 1)
            self.downs.append(nn.Conv2d(inner, width, 4, 2, 1, bias=False))
            self.down_norms.append(nn.Identity() if plain else nn.BatchNorm2d(width))
            self.ups.append(nn.ConvTranspose2d(width * double, outer, 4, 2, 1, bias=level == 0))
            self.up_norms.append(nn.Identity() if level == 0 else nn.BatchNorm2d(outer))

    def forward(self, x):
        """Paints: [B, K, H, W] -> [B, 3, H, W] in [-1, 1]."""
        skips = []
        for level in range(self.depth):
            x = x if level == 0 else functional.leaky_relu(x, 0.2)
            x = self.down_norms[level](self.downs[level](x))
            skips.append(x)
        skips.pop()
        for level in reversed(range(self.depth)):
            x = self.up_norms[level](self.ups[level](functional.relu(x)))
            if 4 <= level <= self.depth - 2:
                x = functional.dropout(x, 0.5)
            if level:
                x = torch.cat([skips[level - 1], x], 1)
        return torch.tanh(x)


def patchgan(channels: int, features: int, layers: int = 3) -> nn.Sequential:
    """Returns the discriminator of 70 px patches (with three layers)."""
    parts, inner = [], channels + 3
    for level in range(layers + 1):
        width, stride = features * min(2**level, 8), 2 if level < layers else 1
        parts.append(nn.Conv2d(inner, width, 4, stride, 1, bias=level == 0))
        parts += [nn.BatchNorm2d(width)] if level else []
        parts.append(nn.LeakyReLU(0.2))
        inner = width
    return nn.Sequential(*parts, nn.Conv2d(inner, 1, 4, 1, 1))


def step(
    batch: dict[str, np.ndarray],
    features: int,
    depth: int,
    *,
    compiled: bool = False,
    channels_last: bool = False,
    bf16: bool = False,
    steps: int = 1,
) -> Callable[[], None]:
    """Returns a call that takes `steps` training steps and waits for them.

    Args:
        batch: `msi` [B, H, W, K] and `image` [B, H, W, 3], float32.
        features: Width of the first layers.
        depth: Halvings.
        compiled: Through `torch.compile`.
        channels_last: Memory format of images and kernels.
        bf16: Under bf16 autocast.
        steps: Steps a call.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layout = torch.channels_last if channels_last else torch.contiguous_format

    def placed(name: str):
        array = torch.from_numpy(np.ascontiguousarray(batch[name].transpose(0, 3, 1, 2)))
        return array.to(device).contiguous(memory_format=layout)

    msi, real = placed("msi") * 2 - 1, placed("image")
    channels = msi.shape[1]
    nets = [UNet(channels, features, depth), patchgan(channels, features)]
    nets = [net.to(device).to(memory_format=layout) for net in nets]
    fused = {"fused": True} if device == "cuda" else {}
    rates = {"lr": 2e-4, "betas": (0.5, 0.999), **fused}
    adams = [torch.optim.Adam(net.parameters(), **rates) for net in nets]
    paint, judge = (torch.compile(net) for net in nets) if compiled else nets

    def call() -> None:
        for _ in range(steps):
            with torch.autocast(device, torch.bfloat16, enabled=bf16):
                _one(paint, judge, nets[1], adams, msi, real)
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def _one(paint, judge, judge_net, adams, msi, real) -> None:
    """One step in pix2pix' order."""
    fake = paint(msi)
    logits = judge(torch.cat([msi, fake.detach()], 1)), judge(torch.cat([msi, real], 1))
    loss = functional.softplus(logits[0]).mean() + functional.softplus(-logits[1]).mean()
    adams[1].zero_grad(set_to_none=True)
    (0.5 * loss).backward()
    adams[1].step()
    judge_net.requires_grad_(False)
    against = functional.softplus(-judge(torch.cat([msi, fake], 1))).mean()
    adams[0].zero_grad(set_to_none=True)
    (against + 100 * (fake - real).abs().mean()).backward()
    adams[0].step()
    judge_net.requires_grad_(True)
