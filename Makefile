# make demo runs the main job, make test the tests; both install what they need first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: setup demo test check bench docs compatibility clean

setup: $(INSTALLED)

# Runs again only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[train,examples,io,dev]"
	touch $@

demo: setup
	$(BIN)/openrnn forecast examples/data/seattle-weather.csv --target temp_max --unit "°C" --window 12 --out demo --overwrite

test: setup
	$(BIN)/python -m pytest -n 2 tests src
	$(BIN)/python -m pytest README.md docs  # the blocks of a page follow each other

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

$(VENV)/.bench: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	touch $@

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Runs the tests that the tables of the page stand for, and fills the tables.
compatibility: setup
	$(BIN)/python -m tools.compatibility

clean:
	rm -rf $(VENV) site demo build dist
