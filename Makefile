# Everything starts from a fresh clone: the first target that needs it makes .venv and installs; the stamp makes the
# second time quick. PYTHON picks the interpreter (3.11 or later).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
SECONDS_OF_DRIVE ?= 30
export OMP_NUM_THREADS ?= 1

.PHONY: install drive test test-worlds torcs lint figures bench clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

drive: $(STAMP)
	$(BIN)/pacenote drive --seconds $(SECONDS_OF_DRIVE)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m "not worlds"

test-worlds: $(STAMP)
	$(BIN)/python -m pytest -m worlds -rs

# The racing simulator TORCS: Debian's packages (needs root) and our driver module, into ~/.cache/pacenote.
torcs: $(STAMP)
	$(BIN)/python -m sims.torcs.install

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

figures: drive
	$(BIN)/python -m training.figures

bench: $(STAMP)
	$(BIN)/pacenote bench

clean:
	rm -rf build .pytest_cache .hypothesis .ruff_cache .mypy_cache .import_linter_cache
