"""Records what PyTorch computes, for the parity tests; needs torch and is run by hand.

The networks below are written after the description of pix2pix' PyTorch implementation
(UnetGenerator, ResnetGenerator, NLayerDiscriminator, PixelDiscriminator), with its layer order, so
that `state_dict` names agree. Dropout layers stand where the original has them, with rate 0: random
masks of two libraries cannot be compared.
"""

import pathlib

import arrays
import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
NORMS = {
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
    "none": lambda channels: nn.Identity(),
}


class UnetBlock(nn.Module):
    """A level of the U-Net around the next deeper one."""

    def __init__(self, outer, inner, channels=None, deeper=None, *, norm, outermost=False, dropout):
        super().__init__()
        self.outermost = outermost
        bias = norm == "instance"
        channels = outer if channels is None else channels
        wide = inner if deeper is None else 2 * inner
        down = nn.Conv2d(channels, inner, 4, stride=2, padding=1, bias=bias)
        up = nn.ConvTranspose2d(wide, outer, 4, stride=2, padding=1, bias=bias or outermost)
        leaky, relu = nn.LeakyReLU(0.2, True), nn.ReLU(True)
        if outermost:
            parts = [down, deeper, relu, up, nn.Tanh()]
        elif deeper is None:
            parts = [leaky, down, relu, up, NORMS[norm](outer)]
        else:
            parts = [leaky, down, NORMS[norm](inner), deeper, relu, up, NORMS[norm](outer)]
            parts += [nn.Dropout(0.0)] if dropout else []
        self.model = nn.Sequential(*parts)

    def forward(self, x):
        """Applies the level; all but the outermost concatenate their input."""
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


class Unet(nn.Module):
    """The U-Net generator."""

    def __init__(self, channels, out, depth, features, norm):
        super().__init__()
        widths = [features * min(2**level, 8) for level in range(depth)]
        block = UnetBlock(widths[-2], widths[-1], norm=norm, dropout=False)
        for level in range(depth - 2, 0, -1):
            block = UnetBlock(
                widths[level - 1], widths[level], deeper=block, norm=norm, dropout=level >= 4
            )
        self.model = UnetBlock(
            out, features, channels, block, norm=norm, outermost=True, dropout=False
        )

    def forward(self, x):
        """`[B, C, H, W]` -> `[B, 3, H, W]`."""
        return self.model(x)


class ResnetBlock(nn.Module):
    """x + f(x)."""

    def __init__(self, channels, norm, dropout):
        super().__init__()
        bias = norm == "instance"
        parts = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias)]
        parts += [NORMS[norm](channels), nn.ReLU(True)]
        parts += [nn.Dropout(0.0)] if dropout else []
        parts += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias)]
        self.conv_block = nn.Sequential(*parts, NORMS[norm](channels))

    def forward(self, x):
        """`[B, C, H, W]` -> the same shape."""
        return x + self.conv_block(x)


class Resnet(nn.Module):
    """The ResNet generator."""

    def __init__(self, channels, out, blocks, features, norm, dropout):
        super().__init__()
        bias = norm == "instance"
        parts = [nn.ReflectionPad2d(3), nn.Conv2d(channels, features, 7, bias=bias)]
        parts += [NORMS[norm](features), nn.ReLU(True)]
        for f in (features, 2 * features):
            parts += [nn.Conv2d(f, 2 * f, 3, stride=2, padding=1, bias=bias)]
            parts += [NORMS[norm](2 * f), nn.ReLU(True)]
        parts += [ResnetBlock(4 * features, norm, dropout) for _ in range(blocks)]
        for f in (4 * features, 2 * features):
            up = {"stride": 2, "padding": 1, "output_padding": 1, "bias": bias}
            parts += [nn.ConvTranspose2d(f, f // 2, 3, **up), NORMS[norm](f // 2), nn.ReLU(True)]
        parts += [nn.ReflectionPad2d(3), nn.Conv2d(features, out, 7), nn.Tanh()]
        self.model = nn.Sequential(*parts)

    def forward(self, x):
        """`[B, C, H, W]` -> `[B, 3, H, W]`."""
        return self.model(x)


class Patch(nn.Module):
    """The patch discriminator."""

    def __init__(self, channels, features, n_layers, norm):
        super().__init__()
        bias = norm == "instance"
        widths = [features * min(2**n, 8) for n in range(n_layers + 1)]
        parts = [nn.Conv2d(channels, features, 4, stride=2, padding=1), nn.LeakyReLU(0.2, True)]
        for n in range(1, n_layers + 1):
            stride = 1 if n == n_layers else 2
            conv = nn.Conv2d(widths[n - 1], widths[n], 4, stride=stride, padding=1, bias=bias)
            parts += [conv, NORMS[norm](widths[n]), nn.LeakyReLU(0.2, True)]
        self.model = nn.Sequential(*parts, nn.Conv2d(widths[-1], 1, 4, padding=1))

    def forward(self, x):
        """`[B, C, H, W]` -> `[B, 1, h, w]`."""
        return self.model(x)


class Pixel(nn.Module):
    """The 1x1 discriminator."""

    def __init__(self, channels, features, norm):
        super().__init__()
        bias = norm == "instance"
        self.net = nn.Sequential(
            nn.Conv2d(channels, features, 1),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(features, 2 * features, 1, bias=bias),
            NORMS[norm](2 * features),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(2 * features, 1, 1, bias=bias),
        )

    def forward(self, x):
        """`[B, C, H, W]` -> `[B, 1, H, W]`."""
        return self.net(x)


def generator(case):
    """Builds the generator of a case."""
    norm = case.get("norm", "batch")
    if case["name"] == "resnet":
        dropout = case.get("dropout", 0.5) > 0
        return Resnet(case["in_channels"], 3, case["blocks"], case["features"], norm, dropout)
    return Unet(case["in_channels"], 3, case["depth"], case["features"], norm)


def discriminator(case):
    """Builds the discriminator of a case."""
    channels, norm = case["in_channels"] + 3, case.get("norm", "batch")
    if case["n_layers"] == 0:
        return Pixel(channels, case["features"], norm)
    return Patch(channels, case["features"], case["n_layers"], norm)


def fill(net, case, dtype):
    """Gives every parameter and statistic its value."""
    net.to(dtype)
    state = {
        name: torch.as_tensor(arrays.parameter(case, name, tuple(value.shape)))
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    missing = net.load_state_dict(state, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    return net


def tensor(images, dtype):
    """`[B, H, W, C]` -> `[B, C, H, W]`."""
    return torch.as_tensor(images).to(dtype).permute(0, 3, 1, 2).contiguous()


def record_network(out, name, case, net, inputs, dtype):
    """Output and gradients in training, statistics after updates, output in evaluation."""
    key = f"{name}/{'f64' if dtype == torch.float64 else 'f32'}"
    fill(net, name, dtype).train()
    y = net(inputs(0))
    target = torch.as_tensor(arrays.uniform(f"{name}/target", tuple(y.shape))).to(dtype)
    (y - target).abs().mean().backward()
    out[f"{key}/train"] = arrays.digest(y.detach().numpy(), 1024)
    for parameter, value in net.named_parameters():
        out[f"{key}/grad/{parameter}"] = arrays.digest(value.grad.numpy())
    with torch.no_grad():
        for step in range(1, arrays.UPDATES):
            net(inputs(step))
        for buffer, value in net.named_buffers():
            if "running" in buffer:
                out[f"{key}/stats/{buffer}"] = arrays.digest(value.numpy())
        out[f"{key}/eval"] = arrays.digest(net.eval()(inputs(0)).numpy(), 1024)


def record_generators(dtype):
    """All generator cases."""
    out = {}
    for name, case in arrays.GENERATORS.items():

        def inputs(step, name=name, case=case):
            msi = arrays.images(f"{name}/{step}", case["batch"], case["size"], case["in_channels"])
            return 2.0 * tensor(msi, dtype) - 1.0

        record_network(out, name, case, generator(case), inputs, dtype)
    return out


def record_discriminators(dtype):
    """All discriminator cases."""
    out = {}
    for name, case in arrays.DISCRIMINATORS.items():

        def inputs(step, name=name, case=case):
            msi = arrays.images(f"{name}/{step}", case["batch"], case["size"], case["in_channels"])
            image = arrays.images(f"{name}/{step}/image", case["batch"], case["size"], 3)
            pair = tensor(msi, dtype), tensor(image, dtype)
            return torch.cat([2.0 * part - 1.0 for part in pair], 1)

        record_network(out, name, case, discriminator(case), inputs, dtype)
    return out


class Level(nn.Module):
    """Two 3x3 convolutions with ReLU."""

    def __init__(self, inputs, outputs):
        super().__init__()
        ends = ((inputs, outputs), (outputs, outputs))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in ends)

    def forward(self, x):
        """`[B, inputs, H, W]` -> `[B, outputs, H, W]`."""
        for conv in self.convs:
            x = torch.relu(conv(x))
        return x


class Rise(nn.Module):
    """Nearest-neighbour doubling and a 2x2 convolution that pads below and right, as Keras."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 2)

    def forward(self, x):
        """`[B, inputs, h, w]` -> `[B, outputs, 2h, 2w]`."""
        x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(nn.functional.pad(x, (0, 1, 0, 1)))


class Ronneberger(nn.Module):
    """The U-Net of the paper's baseline, after the widely copied Keras code, without dropout."""

    def __init__(self, channels, depth, features):
        super().__init__()
        widths = [features * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(Level(i, o) for i, o in zip([channels, *widths], widths))
        self.rises = nn.ModuleList(Rise(widths[n + 1], widths[n]) for n in range(depth))
        self.decoder = nn.ModuleList(Level(2 * widths[n], widths[n]) for n in range(depth))
        self.head = nn.Conv2d(features, 3, 1)

    def forward(self, x):
        """`[B, C, H, W]` -> `[B, 3, H, W]` in [0, 1]."""
        skips = []
        for index, level in enumerate(self.encoder):
            x = level(nn.functional.max_pool2d(x, 2) if index else x)
            skips.append(x)
        for n in reversed(range(len(self.decoder))):
            x = self.decoder[n](torch.cat([skips[n], torch.relu(self.rises[n](x))], 1))
        return torch.sigmoid(self.head(x))


def gan_step(g, d, g_adam, d_adam, msi, image, l1_weight):
    """G forward, D step, then G step through the updated D; returns the three losses."""
    bce = nn.BCEWithLogitsLoss()
    fake = g(msi)
    on_fake, on_real = d(torch.cat([msi, fake.detach()], 1)), d(torch.cat([msi, image], 1))
    d_loss = bce(on_fake, torch.zeros_like(on_fake)) + bce(on_real, torch.ones_like(on_real))
    d_adam.zero_grad()
    (0.5 * d_loss).backward()
    d_adam.step()
    on_fake = d(torch.cat([msi, fake], 1))
    gan, l1 = bce(on_fake, torch.ones_like(on_fake)), (fake - image).abs().mean()
    g_adam.zero_grad()
    (gan + l1_weight * l1).backward()
    g_adam.step()
    return [0.5 * d_loss.item(), gan.item(), l1.item()]


def steps_of(case, optimizers):
    """Counts the steps, and lets the rates of the second half of the epochs fall as the original's
    `get_scheduler("linear")`: at the start of each epoch (exact), or at its end (fixed).
    """
    form, schedulers = case.get("schedule_form"), []
    if form:
        epochs = case["steps"] // case["steps_per_epoch"]
        constant = epochs // 2

        def rule(epoch):
            return 1.0 - max(0, epoch + 1 - constant) / float(epochs - constant + 1)

        schedulers = [torch.optim.lr_scheduler.LambdaLR(each, rule) for each in optimizers]
    for step in range(case["steps"]):
        if form == "exact" and step % case["steps_per_epoch"] == 0:
            [scheduler.step() for scheduler in schedulers]
        yield step
        if form == "fixed" and (step + 1) % case["steps_per_epoch"] == 0:
            [scheduler.step() for scheduler in schedulers]


def record_gan(case):
    """Whole training steps in float64."""
    dtype = torch.float64
    g = fill(generator(case["generator"]), "gan/g", dtype).train()
    d = fill(discriminator(case["discriminator"]), "gan/d", dtype).train()
    rates = case["learning_rate"], case.get("d_learning_rate", case["learning_rate"])
    adams = [
        torch.optim.Adam(net.parameters(), lr=rate, betas=case["betas"])
        for net, rate in zip((g, d), rates)
    ]
    losses = []
    for step in steps_of(case, adams):
        msi = arrays.images(f"gan/{step}", case["batch"], case["size"], 3)
        image = arrays.images(f"gan/{step}/image", case["batch"], case["size"], 3)
        msi, image = (2.0 * tensor(array, dtype) - 1.0 for array in (msi, image))
        losses.append(gan_step(g, d, *adams, msi, image, case["l1_weight"]))
    return {"losses": np.array(losses), **state_of(g=g, d=d)}


def state_of(**nets):
    """All parameters and statistics."""
    return {
        f"{letter}/{name}": value.numpy()
        for letter, net in nets.items()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def record_unet(case):
    """Whole steps of the baseline in float64: Adam with Keras' epsilon on squares in [0, 1]."""
    dtype = torch.float64
    net = Ronneberger(case["in_channels"], case["depth"], case["features"])
    fill(net, "unet/g", dtype).train()
    adam = torch.optim.Adam(
        net.parameters(), lr=case["learning_rate"], betas=case["betas"], eps=case["eps"]
    )
    losses = []
    for step in steps_of(case, [adam]):
        msi = arrays.images(f"unet/{step}", case["batch"], case["size"], case["in_channels"])
        image = arrays.images(f"unet/{step}/image", case["batch"], case["size"], 3)
        loss = nn.functional.mse_loss(net(tensor(msi, dtype)), tensor(image, dtype))
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return {"losses": np.array(losses), **state_of(g=net)}


def record_steps():
    """Whole training steps: of the schedules and the baseline only a digest of the state."""
    np.savez_compressed(HERE / "gan_steps.npz", **record_gan(arrays.GAN))
    found = {
        "gan_exact": record_gan(arrays.GAN_EXACT),
        "unet": record_unet(arrays.UNET),
        "unet_fixed": record_unet(arrays.UNET_FIXED),
    }
    kept = {
        f"{case}/{name}": value if name == "losses" else arrays.digest(value, 16)
        for case, values in found.items()
        for name, value in values.items()
    }
    np.savez_compressed(HERE / "steps.npz", **kept)


def main():
    """Writes the fixtures beside this script."""
    torch.manual_seed(0)
    for dtype, suffix in ((torch.float32, "f32"), (torch.float64, "f64")):
        for kind, record in (("g", record_generators), ("d", record_discriminators)):
            values = record(dtype)
            cast = np.float32 if suffix == "f32" else np.float64
            values = {name: value.astype(cast) for name, value in values.items()}
            np.savez_compressed(HERE / f"{kind}_{suffix}.npz", **values)
    record_steps()


if __name__ == "__main__":
    main()
