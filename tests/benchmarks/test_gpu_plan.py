# ruff: noqa: E501
"""Counting the kernels of a GPU program from its text; the page; shapes compile like arrays."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from benchmarks import gpu_plan_page
from benchmarks.bench_gpu_plan import ROWS, Row
from benchmarks.gpu_program import program_kernels, shape_bytes, summarize
from benchmarks.gpu_targets import TARGETS
from msi2he_jax.training.parallel import Parallel

PROGRAM = """HloModule jit_chunk

%fused (param_0: f32[111,256,256,50], param_1: s32[1]) -> f32[1,256,256,50] {
  %param_0 = f32[111,256,256,50]{3,2,1,0} parameter(0)
  %param_1 = s32[1]{0} parameter(1)
  ROOT %ds = f32[1,256,256,50]{3,2,1,0} dynamic-slice(%param_0, %param_1), sizes={1,256,256,50}
}

%body (state: (f32[4,4,64,128], f32[111,256,256,50])) -> (f32[4,4,64,128]) {
  %state = (f32[4,4,64,128]{3,2,1,0}, f32[111,256,256,50]{3,2,1,0}) parameter(0)
  %kernel = f32[4,4,64,128]{3,2,1,0} get-tuple-element(%state), index=0
  %data = f32[111,256,256,50]{3,2,1,0} get-tuple-element(%state), index=1
  %one = s32[1]{0} constant({0})
  %loop_fusion = f32[1,256,256,50]{3,2,1,0} fusion(%data, %one), kind=kLoop, calls=%fused
  %conv.1 = (bf16[1,128,128,64]{3,2,1,0}, u8[0]{0}) custom-call(%loop_fusion, %kernel), custom_call_target="__cudnn$convForward"
  %gemm_fusion_dot.2 = f32[512,512]{1,0} fusion(%kernel), kind=kCustom, calls=%none
  %ar-start = f32[4,4,64,128]{3,2,1,0} all-reduce-start(%kernel), to_apply=%add
  %ar-done = f32[4,4,64,128]{3,2,1,0} all-reduce-done(%ar-start)
  %copy.3 = f32[4,4,64,128]{3,2,1,0} copy(%ar-done)
  %small = f32[64]{0} negate(%one)
  ROOT %out = (f32[4,4,64,128]{3,2,1,0}) tuple(%copy.3)
}

ENTRY %main (p: (f32[4,4,64,128], f32[111,256,256,50])) -> (f32[4,4,64,128]) {
  %p = (f32[4,4,64,128]{3,2,1,0}, f32[111,256,256,50]{3,2,1,0}) parameter(0)
  ROOT %while.1 = (f32[4,4,64,128]{3,2,1,0}) while(%p), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"4"}}
}
"""
IMAGE, WEIGHTS = 4 * 256 * 256 * 50, 4 * 4 * 4 * 64 * 128


def test_kernels_of_the_loop_are_counted_once_each():
    kernels = {each.name: each for each in program_kernels(PROGRAM, one_turn=True)}
    kinds = {name: each.kind for name, each in kernels.items()}
    assert kinds == {
        "loop_fusion": "activations",
        "conv.1": "convolution",
        "gemm_fusion_dot.2": "matrix product",
        "ar-start": "collective",
        "copy.3": "weights",
        "small": "tiny",
    }
    # Of the data set that is sliced, the slice alone is read.
    assert kernels["loop_fusion"].bytes == 2 * IMAGE + 4
    assert kernels["conv.1"].bytes == IMAGE + WEIGHTS + 2 * 128 * 128 * 64
    assert kernels["copy.3"].bytes == 2 * WEIGHTS


def test_a_loop_counts_as_often_as_it_turns():
    once = summarize(program_kernels(PROGRAM, one_turn=True))
    whole = summarize(program_kernels(PROGRAM))
    assert whole["kernels"] == 4 * once["kernels"] == 24
    assert whole["traffic_gb"] == pytest.approx(4 * once["traffic_gb"])


def test_totals_add_up():
    facts = summarize(program_kernels(PROGRAM, one_turn=True))
    assert facts["kernels"] == 6 and facts["collectives"] == 1
    assert facts["copies_gb"] == pytest.approx(2 * WEIGHTS / 1e9)
    assert facts["collectives_mb"] == pytest.approx(WEIGHTS / 1e6)
    counted = facts["convolution_gb"] + facts["matrix_product_gb"]
    assert facts["other_gb"] == pytest.approx(facts["traffic_gb"] - counted)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [("f32[2,3]{1,0}", 24), ("(bf16[4], pred[5])", 13), ("s64[]", 8), ("token[]", 4)],
)
def test_sizes_of_shapes(shape, expected):
    assert shape_bytes(shape) == expected


def test_rows_are_told_apart_and_targets_are_described():
    assert len({row.key for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert TARGETS[row.target].name in TARGETS[row.target].description()
        assert row.batch % row.gpus == 0 and row.dtype in TARGETS[row.target].tflops


def test_the_page_says_that_nothing_was_run():
    facts = summarize(program_kernels(PROGRAM, one_turn=True)) | {
        "planned_gib": 1.0,
        "bandwidth_ms": 2.5,
    }
    rows = [
        dataclasses.asdict(Row()) | facts | {"arithmetic_ms": 1.5},
        dataclasses.asdict(Row(gpus=8, batch=128)) | facts,
        dataclasses.asdict(Row(mode="pmap", gpus=8)) | {"failed": "no such thing"},
    ]
    environment = {"date": "2026-01-01", "revision": "abc", "versions": {"jax": "0.10.2"}}
    page = gpu_plan_page.page({"environment": environment, "rows": rows})
    assert page.startswith("# What a GPU would run: planned, not measured")
    assert "| step, batch 16, 256 px, bfloat16 | H200 | 6 |" in page and "| 2.50 |" in page
    assert "8 x H200" in page and "not compiled: no such thing" in page
    widths = {line.count("|") for line in page.splitlines() if line.startswith("| step")}
    assert widths == {11}


def test_shapes_compile_as_arrays_do():
    shared = Parallel("jit", tuple(jax.devices()[:1]))
    shape = jax.ShapeDtypeStruct((4,), jnp.float32)
    program = shared.compile_shapes(lambda x, y: x + y, shape, shape, platform="cpu")
    assert "f32[4]" in program.as_text()
