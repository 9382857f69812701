"""GPUs that programs are planned for, as XLA's CUDA compiler wants them described.

Sources: NVIDIA's data sheets of H200, H100 SXM5, A100 80 GB SXM4, L40S (memory, bandwidth, cores,
clock, dense bfloat16 and float32 rates); CUDA C++ Programming Guide, table of technical
specifications per compute capability (threads, registers, shared memory).
"""

from __future__ import annotations

import dataclasses

_TEMPLATE = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: {shared_core}
  shared_memory_per_block_optin: {shared_optin}
  threads_per_core_limit: {threads} core_count: {cores} fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: {l2} clock_rate_ghz: {clock}
  device_memory_size: {memory}
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 28 patch: 1 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{name}"
"""


@dataclasses.dataclass(frozen=True)
class Target:
    """A GPU.

    Attributes:
        name: As NVIDIA calls it.
        capability: Compute capability, (major, minor).
        cores: Streaming multiprocessors.
        clock_ghz: Boost clock, GHz.
        memory_bytes: Of the device.
        bandwidth: Bytes a second.
        l2_bytes: Second-level cache.
        shared_core: Shared memory of a multiprocessor, bytes.
        shared_optin: Most of it that a block may ask for, bytes.
        threads: Most threads of a multiprocessor.
        tflops: Dense rate in TFLOP/s by data type.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    clock_ghz: float
    memory_bytes: int
    bandwidth: float
    l2_bytes: int
    shared_core: int
    shared_optin: int
    threads: int
    tflops: dict[str, float]

    def description(self) -> str:
        """Returns the target as the text form of XLA's `GpuTargetConfigProto`."""
        return _TEMPLATE.format(
            name=self.name,
            major=self.capability[0],
            minor=self.capability[1],
            cores=self.cores,
            clock=self.clock_ghz,
            memory=self.memory_bytes,
            bandwidth=int(self.bandwidth),
            l2=self.l2_bytes,
            shared_core=self.shared_core,
            shared_optin=self.shared_optin,
            threads=self.threads,
        )


_HOPPER = {"shared_core": 233_472, "shared_optin": 232_448, "threads": 2048}
TARGETS = {
    "h200": Target(
        name="NVIDIA H200",
        capability=(9, 0),
        cores=132,
        clock_ghz=1.98,
        memory_bytes=150_754_820_096,
        bandwidth=4.8e12,
        l2_bytes=62_914_560,
        tflops={"bfloat16": 989.0, "float32": 67.0},
        **_HOPPER,
    ),
    "h100": Target(
        name="NVIDIA H100 80GB HBM3",
        capability=(9, 0),
        cores=132,
        clock_ghz=1.98,
        memory_bytes=85_029_158_912,
        bandwidth=3.35e12,
        l2_bytes=52_428_800,
        tflops={"bfloat16": 989.0, "float32": 67.0},
        **_HOPPER,
    ),
    "a100": Target(
        name="NVIDIA A100-SXM4-80GB",
        capability=(8, 0),
        cores=108,
        clock_ghz=1.41,
        memory_bytes=85_029_158_912,
        bandwidth=2.039e12,
        l2_bytes=41_943_040,
        shared_core=167_936,
        shared_optin=166_912,
        threads=2048,
        tflops={"bfloat16": 312.0, "float32": 19.5},
    ),
    "l40s": Target(
        name="NVIDIA L40S",
        capability=(8, 9),
        cores=142,
        clock_ghz=2.52,
        memory_bytes=47_697_362_944,
        bandwidth=8.64e11,
        l2_bytes=100_663_296,
        shared_core=102_400,
        shared_optin=101_376,
        threads=1536,
        tflops={"bfloat16": 362.0, "float32": 91.6},
    ),
}
