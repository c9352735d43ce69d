# make train  sets everything up and trains the method that our study found best
# make test   sets everything up and runs the tests, but for the long ones of a kind
# make test-all  runs those too
# make test-portable  runs the numerical tests on every code path of this processor, and with
#             other random numbers
# make soak   tries to break it for some hours: kills, signals, full disks, damaged files
# make lint   checks style and types
# make docs   builds the site of docs/ into build/site
PYTHON ?= python3
# The versions that the project is tested with; any in the ranges of pyproject.toml will do:
# make train TORCH="torch torchvision"
TORCH ?= torch==2.14.1 torchvision==0.29.1
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
READY := $(VENV)/.ready

.PHONY: train test test-all test-portable soak lint docs docs-serve clean

train: $(READY)
	$(BIN)/savi-train experiment=vlae

# Two processes of one thread each; the tests of a file share what they set up.
test: $(READY)
	$(PYTEST) -m "not long"

test-all: $(READY)
	$(PYTEST)

test-portable: $(READY)
	$(BIN)/python tests/portable.py

soak: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/soak.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What builds the site is installed when it is built first. The variable leaves out a notice on the
# next version of MkDocs, which the ranges of pyproject.toml exclude.
docs: $(READY)
	test -x $(BIN)/mkdocs || $(BIN)/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/site/mkdocs.yml

docs-serve: docs
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site 8000

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "savi needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache
