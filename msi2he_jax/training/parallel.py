"""What training knows about devices: one step, a batch shared between them, two ways.

`jit`: arrays carry shardings and the compiler adds the communication; batch moments are those of
the whole batch. `pmap`: each device runs the step on its share; gradients, losses and batch moments
are averaged over the mapped axis. One body serves both, since it averages gradients and never
differentiates an average.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from msi2he_jax.errors import InputError

AXIS = "data"


@dataclasses.dataclass(frozen=True)
class Parallel:
    """Devices and the way they share a batch.

    Attributes:
        mode: `"jit"` or `"pmap"`.
        devices: The devices used.
    """

    mode: str
    devices: tuple

    @property
    def axis_name(self) -> str | None:
        """The mapped axis that a step must average over, or None where the compiler does it."""
        return AXIS if self.mode == "pmap" else None

    @property
    def loops(self) -> bool:
        """Whether steps belong in one compiled loop: not on a CPU.

        There XLA brings a convolution's kernel gradient into the form of its fast routine only
        outside of loops: inside `lax.scan` it ran 15 to 50 times slower (0.10.2).
        """
        return self.devices[0].platform != "cpu"

    def place(self, tree: Any) -> Any:
        """Copies a pytree of arrays to every device."""
        if self.mode == "jit":
            return jax.tree.map(self._everywhere, tree)
        spread = jax.jit(self._repeat, out_shardings=self._sharding(AXIS))
        return spread(tree)

    def rows(self, batch_size: int) -> slice:
        """Returns which rows of a batch this process' devices hold."""
        each = batch_size // len(self.devices)
        mine = [
            place
            for place, device in enumerate(self.devices)
            if device.process_index == jax.process_index()
        ]
        return slice(mine[0] * each, (mine[-1] + 1) * each)

    def place_parts(self, batch: Any) -> Any:
        """Copies this process' rows of a batch, numpy `[b, ...]` each, to the devices they are for.

        Returns:
            What `share` makes of a whole batch.
        """
        return jax.tree.map(self._from_parts, batch)

    def _from_parts(self, x: np.ndarray) -> jax.Array:
        mine = [each for each in self.devices if each.process_index == jax.process_index()]
        many = len(self.devices) // len(mine)  # processes
        if self.mode == "pmap":
            x = x.reshape(len(mine), -1, *x.shape[1:])
        parts = [jax.device_put(*each) for each in zip(np.split(x, len(mine)), mine, strict=True)]
        shape = (many * x.shape[0], *x.shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self._sharding(AXIS), parts)

    def beside(self, tree: Any) -> Any:
        """Copies a pytree of arrays to where `single` leaves its own, to compute with both."""
        return self.place(tree) if self.mode == "jit" else jax.device_put(tree, self.devices[0])

    def single(self, tree: Any) -> Any:
        """Returns one copy of a pytree that `place` or a compiled chunk made."""
        if self.mode == "jit":
            return tree
        return jax.tree.map(lambda x: x.addressable_shards[0].data[0], tree)

    def gathered(self, batch: Any) -> Any:
        """Returns a batch of which each device has a part as one: `[B, ...]` per array."""
        if self.mode == "jit":
            return batch
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def share(self, sample: Callable[..., dict]) -> Callable[..., dict]:
        """Returns `sample`, which draws a whole batch, made to leave each device its part."""

        def sharded(*inputs: Any) -> dict:
            return jax.lax.with_sharding_constraint(sample(*inputs), self._sharding(AXIS))

        def sliced(*inputs: Any) -> dict:
            place = jax.lax.axis_index(AXIS)
            return jax.tree.map(lambda x: self._part(x, place), sample(*inputs))

        return sharded if self.mode == "jit" else sliced

    def compile_draw(self, sample: Callable[..., dict]) -> Callable[..., dict]:
        """Returns `sample(arrays, step, seed)` as a call of its own, from and to placed arrays.

        Args:
            sample: Gives every device its part of the batch, as from `share`.
        """
        if self.mode == "jit":
            return jax.jit(sample, out_shardings=self._sharding(AXIS))
        return jax.pmap(sample, AXIS, devices=self.devices)

    def compile(self, function: Callable, *inputs: Any) -> tuple[Callable, float]:
        """Compiles `function(state, ...)`, which overwrites its first argument.

        Args:
            function: From a placed state and placed arguments to a pytree.
            *inputs: Placed arguments, as later calls will have them.

        Returns:
            The compiled function and the seconds that tracing and compiling took.
        """
        begin = time.monotonic()
        return self._jitted(function).lower(*inputs).compile(), time.monotonic() - begin

    def compile_shapes(self, function: Callable, *shapes: Any, platform: str) -> Any:
        """Compiles `function(state, ...)` for devices that are not here, from shapes alone.

        Args:
            function: As for `compile`.
            *shapes: Pytrees of `jax.ShapeDtypeStruct`, one copy of each array.
            platform: Of the devices, such as `"cuda"`.

        Returns:
            The compiled program, to be inspected, not called.
        """
        if self.mode == "pmap":
            count = len(self.devices)
            shapes = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), shapes
            )
            return self._jitted(function).lower(*shapes).compile()
        everywhere = self._sharding()
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), shapes
        )
        traced = self._jitted(function).trace(*shapes)
        return traced.lower(lowering_platforms=(platform,)).compile()

    def _jitted(self, function: Callable) -> Any:
        if self.mode == "jit":
            return jax.jit(function, donate_argnums=0, out_shardings=self._sharding())
        return jax.pmap(function, AXIS, devices=self.devices, donate_argnums=0)

    def _sharding(self, *axes: str) -> NamedSharding:
        return NamedSharding(Mesh(np.array(self.devices), (AXIS,)), PartitionSpec(*axes))

    def _everywhere(self, x: Any) -> jax.Array:
        """Puts one array on all devices; on those of other processes they put it themselves."""
        if all(device.process_index == jax.process_index() for device in self.devices):
            return jax.device_put(x, self._sharding())
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, self._sharding(), lambda index: x[index])

    def _repeat(self, tree: Any) -> Any:
        count = len(self.devices)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), tree)

    def _part(self, x: jax.Array, place: jax.Array) -> jax.Array:
        size = x.shape[0] // len(self.devices)
        return jax.lax.dynamic_slice_in_dim(x, place * size, size)


def planned_cost(executable: Any) -> dict[str, float]:
    """Returns what the compiler says of a compiled call, as far as it does.

    Args:
        executable: From `Parallel.compile`.

    Returns:
        `planned_gib`, memory for arguments, results and what lies between; `xla_gflop` and
        `xla_gbyte`, operations and memory traffic of one call by XLA's own count.
    """
    found, cost = executable.memory_analysis(), executable.cost_analysis()
    cost = cost[0] if isinstance(cost, list) else cost or {}
    read = {"xla_gflop": cost.get("flops"), "xla_gbyte": cost.get("bytes accessed")}
    said = {name: value / 1e9 for name, value in read.items() if value}
    if found is None:
        return said
    apart = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return said | {"planned_gib": (apart + found.temp_size_in_bytes) / 2**30}


def use_compilation_cache() -> None:
    """Keeps compiled programs in `$MSI2HE_CACHE` or `~/.cache/msi2he_jax`: the next is quick."""
    folder = os.environ.get("MSI2HE_CACHE") or os.path.expanduser("~/.cache/msi2he_jax")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def choose_devices(mode: str, batch_size: int) -> Parallel:
    """Returns the devices that share a batch: those of all processes, or one for one image.

    Args:
        mode: `"jit"` or `"pmap"`.
        batch_size: Images per step, over all devices.

    Raises:
        InputError: the batch cannot be shared equally, or several processes shall use `pmap`.
    """
    processes = jax.process_count()
    devices = tuple(jax.devices() if processes > 1 else jax.local_devices())
    if processes > 1 and mode == "pmap":
        why = f"is pmap, which shares a batch within one process, not between {processes}"
        raise InputError("config", "parallel", why, "--config.parallel=jit")
    if batch_size == 1 and processes == 1:
        return Parallel(mode, devices[:1])
    if batch_size % len(devices):
        why = f"is {batch_size}, which {len(devices)} devices cannot share equally"
        near = max(1, round(batch_size / len(devices))) * len(devices)
        raise InputError("config", "train.batch_size", why, f"--config.train.batch_size={near}")
    return Parallel(mode, devices)
