# make demo | test | test-interop | check | matrix | bench | dev | clean
# PYTHON=python3.12 make demo  picks another Python (3.11, 3.12 or 3.13); WORKERS=8 make test  more processes.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
TAG = $(shell $(PYTHON) -c 'import sys; print("py%d%d" % sys.version_info[:2])')
CONSTRAINTS = $(wildcard constraints/$(TAG).txt)
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS))
DEMO ?= runs/demo

# Pythons in which `make matrix` installs the wheel and runs the whole line in an empty folder.
MATRIX ?= python3.11 python3.12 python3.13

.PHONY: demo test test-interop check matrix dev bench clean

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py --out=$(DEMO)

test: $(VENV)/.tested
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile

check: $(VENV)/.developed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

matrix:
	@for python in $(MATRIX); do bash tests/wheel.sh $$python || exit 1; done

# SpatialData, elastix and jax2onnx want other versions than constraints/ pins: an environment of their own.
INTEROP ?= .venv-interop
# jax2onnx pins an older orbax-checkpoint than ours, which it does not use: so without its dependencies.
ONNX = jax2onnx==0.17.1 onnx onnxruntime onnx_ir sympy mpmath equinox jaxtyping wadler-lindig dm-pix einops huggingface-hub

test-interop: $(INTEROP)/.installed
	MSI2HE_INTEROP=1 $(INTEROP)/bin/python -m pytest -m interop

$(INTEROP)/.installed: setup.cfg constraints/interop.txt
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(INTEROP)/bin/uv pip install --quiet --python $(INTEROP)/bin/python --constraint constraints/interop.txt --editable '.[interop]'
	$(INTEROP)/bin/uv pip install --quiet --python $(INTEROP)/bin/python --constraint constraints/interop.txt --no-deps $(ONNX)
	@touch $@

bench: $(VENV)/.tested
	$(BIN)/python -m benchmarks.report --suite=quick

dev: $(VENV)/.developed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PIP) --editable .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.developed: $(VENV)/.tested
	$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(INTEROP) .pytest_cache .ruff_cache .jax_cache build *.egg-info
