PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

# On a machine with an NVIDIA card, JAX for the CUDA version that its driver supports.
CUDA := $(shell nvidia-smi 2>/dev/null | sed -nE 's/.*CUDA[A-Za-z ]*Version: *([0-9]+).*/\1/p' | head -n 1)
comma := ,
ACCELERATOR := $(if $(CUDA),$(if $(filter 12,$(CUDA)),$(comma)cuda12,$(comma)cuda13))

.PHONY: install train test check conformance gauntlet mutants bench lock clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxzero needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[data,export,dev$(ACCELERATOR)]'
	touch $@

train: $(STAMP)
	$(BIN)/jaxzero train tic_tac_toe_standard

test: $(STAMP)
	$(BIN)/pytest -n 2

check: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/deptry .

conformance: $(STAMP)
	CONFORMANCE=1 $(BIN)/pytest -n 2 --dist worksteal -vv --durations=20 $$(grep -lr --include='*.py' '^from oracles' tests)

gauntlet: $(STAMP)
	PYTHONPATH=.:tests $(BIN)/python -m gauntlet

mutants: $(STAMP)
	PYTHONPATH=.:tests $(BIN)/python -m mutants

bench: $(STAMP)
	$(BIN)/python -m benchmarks.games
	$(BIN)/python -m benchmarks.self_play
	$(BIN)/python -m benchmarks.search trees --actions 7
	$(BIN)/python -m benchmarks.search games --games connect_four

# Writes the version of every dependency for every platform; `make lock UPGRADE=--upgrade` takes newer ones.
lock: $(STAMP)
	$(BIN)/uv pip compile $(UPGRADE) --universal --python-version 3.11 --all-extras --no-emit-index-url --no-annotate \
		--custom-compile-command 'make lock' --quiet --output-file constraints.txt pyproject.toml

clean:
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
