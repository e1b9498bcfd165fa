# Everything starts from a bare checkout with Python 3.11 or later and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGES ?=
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup spark demo up down deploy watch doctor test lint bench bench-scale constraints clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(VENV)/installed  ## Set everything up in .venv, and run nothing

# The stamp is made again whenever what is installed would change.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one with make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about 4 minutes and 3.2 GB the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,local,service,test]'
	@touch $@

spark: $(VENV)/installed-spark  ## Add Spark to it, for tables.engine = "spark"; needs Java 17

$(VENV)/installed-spark: $(VENV)/installed
	@echo "Adding Spark to $(VENV): about a minute and 0.6 GB"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[spark]'
	@touch $@

demo: setup  ## Run the whole pipeline on this machine; IMAGES=<folder> for photos of your own
	@$(BIN)/python -m deployments demo $(if $(IMAGES),--images '$(IMAGES)')

up: setup  ## Run the whole service on this machine until Ctrl-C, and print where it is
	@$(BIN)/python -m deployments up

down: setup  ## End what a killed `make up` has left
	@$(BIN)/python -m deployments down

deploy: setup  ## Put prefect.yaml on the Prefect server, and retire what it does not say any more
	@$(BIN)/python -m deployments deploy

watch: setup  ## Start a run as soon as photos have landed in a folder of this machine
	@$(BIN)/python -m deployments watch

doctor: setup  ## Look whether a run would start and end well, and say what to do
	@$(BIN)/python -m deployments doctor

# PYTEST_ARGS are for one process.
test: setup spark lint  ## Run all checks and tests
	@$(BIN)/python -m $(if $(PYTEST_ARGS),pytest $(PYTEST_ARGS),tests)

lint: setup spark  ## ruff, mypy, import-linter
	@$(BIN)/ruff format --check --quiet . || { echo "run $(BIN)/ruff format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: setup  ## Measure against named baselines; results also in build/bench.json
	@$(BIN)/python -m benchmarks

bench-scale: setup spark  ## Measure up to 100,000 photos by both table engines; takes half an hour
	@$(BIN)/python -m benchmarks.scale

# From an editable install, so that this project is no line of its own, and none with an address is let through.
constraints:  ## Install anew within the ranges of pyproject.toml, and write the versions to constraints.txt
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(PYTHON) -m venv "$$folder/venv" && \
	"$$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[train,local,spark,service,test]' && \
	"$$folder/venv/bin/python" -m pip freeze --disable-pip-version-check --exclude-editable > "$$folder/frozen" && \
	if grep -nE '@|://' "$$folder/frozen"; then echo "these lines name an address instead of a version; constraints.txt is as it was"; exit 1; fi && \
	{ grep '^#' constraints.txt; cat "$$folder/frozen"; } > "$$folder/constraints" && cat "$$folder/constraints" > constraints.txt

clean:  ## Remove what was built; keeps .car_damage, which holds your tables and models
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
