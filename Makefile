PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test check lint types sanitize neon clean

install: $(VENV)/.installed

# What the compiled engine is made of; every other file of an editable install is read as it stands.
ENGINE := src/recurra/kernels/cpu
NATIVE := CMakeLists.txt $(wildcard $(ENGINE)/csrc/* $(ENGINE)/generator/*.py src/recurra/cells/*.py)

$(VENV)/.installed: pyproject.toml constraints.txt $(NATIVE)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "recurra needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/python examples/demo.py

# One thread each: the tests' tensors are small, and processes that each use all cores slow one another down.
test: install lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# What takes longer than every change can wait for: the tests marked so, damaged files, tensors of more than 2^31 elements.
check: test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m check
	$(BIN)/python -m tests.fuzz
	$(BIN)/python -m tests.kernels.huge

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# docs/development.md says what these two look for and what they need.
sanitize: install
	$(BIN)/python -m tests.kernels.sanitize

neon: install
	$(BIN)/python -m tests.kernels.neon
	$(BIN)/python -m tests.kernels.no_avx

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .mypy_cache .ruff_cache
