# Two commands: `make reproduce` (the demo, from nothing to its report) and `make test`. Both set up what is missing and are
# quick when nothing changed. ARGS go to Snakemake: make reproduce ARGS="--configfile workflow/presets/cifar-cpu.yaml"
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
SOURCES := $(shell find csrc -type f) setup.py pyproject.toml

# The C++ under address and undefined-behaviour sanitizers, through the tests of the ops (GCC on Linux; some minutes).
SANITIZED := build/sanitized
sanitize: setup
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED) && cp -r pydyn $(SANITIZED)/ && rm -f $(SANITIZED)/pydyn/*.so
	PYDYN_CUDA=0 PYDYN_SANITIZE=1 \
		$(BIN)/python setup.py --quiet build_ext --build-lib $(SANITIZED) --build-temp $(SANITIZED)/objects
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
		$(BIN)/pytest -o pythonpath=$(SANITIZED) -p no:cacheprovider -m 'not slow' tests/ops

.PHONY: reproduce test test-slurm sanitize setup lint format lock clean

reproduce: setup
	@$(BIN)/pydyn reproduce --cores all $(ARGS)

test: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup

# On a real SLURM of one node: some ten minutes, or what SLURM_TESTS chooses. As root with apt at hand it installs what is missing;
# elsewhere the tests say why they are skipped.
test-slurm: setup
	@command -v slurmctld >/dev/null || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing slurm-wlm and munge"; timeout 120 apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive timeout 240 apt-get install -y -qq slurm-wlm munge >/dev/null || true; fi
	PYDYN_SLURM=1 $(BIN)/python -m pytest -n 2 tests/cluster $(if $(SLURM_TESTS),-k "$(SLURM_TESTS)")

setup: $(VENV)/.built

# Not compiled at once, which takes a minute for modules of which few are ever imported.
$(VENV)/.locked: requirements.lock
	@echo "Installing the locked dependencies (a few minutes the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pydyn needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --requirement requirements.lock
	@touch $@

$(VENV)/.built: $(VENV)/.locked $(SOURCES)
	@echo "Building the extension (a minute the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/mypy
	PATH="$(BIN):$$PATH" $(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow
	find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' | xargs $(BIN)/clang-format -i
	$(BIN)/pydyn schema >workflow/schemas/config.schema.json

# Needs `uv` (pip install uv): exact versions and digests for every platform, from the ranges in pyproject.toml.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info pydyn/*.so
