# Everything starts from a bare checkout with Python 3.11 or later and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGES ?=
PYTEST_ARGS ?=

# Many container images set this. Each of our processes would then compile all of TensorFlow again: 25 s in place of 10.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup spark demo up down deploy watch doctor test lint fuzz bench bench-scale bench-nights bench-soak pictures constraints clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/installed  ## Install everything into .venv

# The installation is repeated when one of these files is newer than the stamp file.
$(VENV)/installed: pyproject.toml constraints.txt deployments/install.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one with make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about half a minute and 2 GB the first time"
	@sh deployments/install.sh $(VENV) train,local,service,test
	@touch $@

spark: $(VENV)/installed-spark  ## Install Spark too, for tables.engine = "spark"; needs Java 17

$(VENV)/installed-spark: $(VENV)/installed
	@echo "Adding Spark to $(VENV): about 10 seconds and 0.6 GB"
	@sh deployments/install.sh $(VENV) spark
	@touch $@

# Through the environment, and without make's own expansion: a folder's name may have quotes, spaces and dollars.
demo: export DEMO_IMAGES := $(value IMAGES)
demo: setup  ## Run the whole pipeline on this machine; IMAGES=<folder> for your own photos
	@$(BIN)/python -m deployments demo $${DEMO_IMAGES:+--images "$$DEMO_IMAGES"}

up: setup  ## Run the whole service on this machine until Ctrl-C, and print its addresses
	@$(BIN)/python -m deployments up

down: setup  ## Stop what a killed `make up` left running
	@$(BIN)/python -m deployments down

deploy: setup  ## Deploy prefect.yaml to the Prefect server, and retire what it does not contain
	@$(BIN)/python -m deployments deploy

watch: setup  ## Start a run as soon as photos have landed in a local folder
	@$(BIN)/python -m deployments watch

doctor: setup  ## Check whether a run would start and succeed, and say what to do
	@$(BIN)/python -m deployments doctor

# With PYTEST_ARGS, one pytest process runs.
test: setup spark lint  ## Run all checks and tests
	@$(BIN)/python -m $(if $(PYTEST_ARGS),pytest $(PYTEST_ARGS),tests)

lint: setup spark  ## ruff, mypy, import-linter
	@$(BIN)/ruff format --check --quiet . || { echo "run $(BIN)/ruff format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fuzz: MINUTES ?= 5
fuzz: $(VENV)/installed-fuzz  ## Fuzz the decoder, labels and request bodies for MINUTES=5, then 10,000 mutated photos
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

$(VENV)/installed-fuzz: $(VENV)/installed
	@sh deployments/install.sh $(VENV) fuzz
	@touch $@

bench: setup  ## Run the benchmarks against their baselines; writes build/bench.json
	@$(BIN)/python -m benchmarks

bench-scale: setup spark  ## Measure both table engines with up to 100,000 photos; takes half an hour
	@$(BIN)/python -m benchmarks.scale
	@$(BIN)/python -m benchmarks scoring

bench-nights: setup  ## Simulate a thousand nights of people, photos and kills; takes twenty minutes
	@$(BIN)/python -m benchmarks nights

bench-soak: MINUTES ?= 15
bench-soak: setup  ## Compress busy hours into MINUTES=15, and see whether anything leaks or gets lost
	@$(BIN)/python -m benchmarks.soak --minutes $(MINUTES)

pictures: setup  ## Take the README's pictures anew; needs Chromium with its chromedriver
	@$(BIN)/python -m tests.pictures

# From an editable install, so that the list leaves out this project. A line with a URL is refused. Both builds of TensorFlow have
# the same version.
constraints:  ## Resolve the ranges of pyproject.toml again, and write the versions to constraints.txt
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(PYTHON) -m venv "$$folder/venv" && \
	"$$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[train,local,spark,service,docker,kubernetes,test,fuzz]' && \
	"$$folder/venv/bin/python" -m pip freeze --disable-pip-version-check --exclude-editable > "$$folder/frozen" && \
	if grep -nE '@|://' "$$folder/frozen"; then echo "these lines name a URL instead of a version; constraints.txt is unchanged"; exit 1; fi && \
	sed -i 's/^tensorflow==\(.*\)/&\ntensorflow-cpu==\1/' "$$folder/frozen" && \
	{ grep '^#' constraints.txt; cat "$$folder/frozen"; } > "$$folder/constraints" && cat "$$folder/constraints" > constraints.txt

clean:  ## Delete .venv and everything built; keeps .car_damage, which holds your tables and models
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
