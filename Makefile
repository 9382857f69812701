# make demo | test | check | bench | dev | clean.  PYTHON=python3.12 make demo  picks another Python (3.11 or 3.12); WORKERS=8 make test  more processes.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2
TAG = $(shell $(PYTHON) -c 'import sys; print("py%d%d" % sys.version_info[:2])')
CONSTRAINTS = $(wildcard constraints/$(TAG).txt)
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS))
DEMO ?= runs/demo

.PHONY: demo test check dev bench clean

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py --out=$(DEMO)

test: $(VENV)/.tested
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile

check: $(VENV)/.developed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

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
	rm -rf $(VENV) .pytest_cache .ruff_cache .jax_cache build *.egg-info
