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

# uv installs several times faster than pip. The one on the PATH is used, or else its wheel; where neither can be had, or uv fails, pip
# installs. uv reads neither pip's variables nor its files, so the index, the folders of wheels and the certificates are handed on,
# where uv's own variables do not say otherwise. What else pip is told (a proxy's address, a netrc, trusted hosts) uv has variables of its
# own for. Compiled files are made at once, as pip does: the first import does not pay for them, and raises no SyntaxWarning.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
comma := ,
define install
uv=$$(command -v uv || { $(PIP) install --constraint constraints.txt uv >/dev/null 2>&1 && echo $(BIN)/uv; }); \
index=$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config list 2>/dev/null | sed -n "s/^global.index-url='\(.*\)'$$/\1/p")}}; \
[ -z "$$index" ] || export UV_DEFAULT_INDEX="$$index"; \
[ -z "$$PIP_EXTRA_INDEX_URL" ] || export UV_INDEX="$${UV_INDEX:-$$PIP_EXTRA_INDEX_URL}"; \
[ -z "$$PIP_FIND_LINKS" ] || export UV_FIND_LINKS="$${UV_FIND_LINKS:-$$(echo $$PIP_FIND_LINKS | tr ' ' ',')}"; \
[ -z "$$PIP_CERT" ] || export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$PIP_CERT}"; \
if [ -n "$$uv" ] && "$$uv" pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt --editable '.[$(1)]'; then :; \
else echo "uv could not install; pip does, which takes about 4 minutes"; \
$(PIP) install --constraint constraints.txt --editable '.[$(1)]'; fi
endef

setup: $(VENV)/installed  ## Set everything up in .venv, and run nothing

# The stamp is made again whenever what is installed would change.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one with make PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV): about a minute and 3.2 GB the first time"
	@$(call install,train$(comma)local$(comma)service$(comma)test)
	@touch $@

spark: $(VENV)/installed-spark  ## Add Spark to it, for tables.engine = "spark"; needs Java 17

$(VENV)/installed-spark: $(VENV)/installed
	@echo "Adding Spark to $(VENV): about a minute and 0.6 GB"
	@$(call install,spark)
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

# Tests of the service watch clocks, and tell one story on one Prefect server: they have the machine to themselves. PYTEST_ARGS
# are for one process.
SERVICE := tests/prefect tests/test_up.py tests/test_demo.py
BESIDE := --numprocesses 2 --dist loadfile --no-loadscope-reorder tests $(addprefix --ignore=,$(SERVICE))

test: setup spark lint  ## Run all checks and tests
	@$(if $(PYTEST_ARGS),$(BIN)/python -m pytest $(PYTEST_ARGS),\
	failed=0; $(BIN)/python -m pytest --durations 10 $(BESIDE) || failed=1; \
	$(BIN)/python -m pytest --durations 10 $(SERVICE) || failed=1; exit $$failed)

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
	"$$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[train,local,spark,service,test]' uv && \
	"$$folder/venv/bin/python" -m pip freeze --disable-pip-version-check --exclude-editable > "$$folder/frozen" && \
	if grep -nE '@|://' "$$folder/frozen"; then echo "these lines name an address instead of a version; constraints.txt is as it was"; exit 1; fi && \
	{ grep '^#' constraints.txt; cat "$$folder/frozen"; } > "$$folder/constraints" && cat "$$folder/constraints" > constraints.txt

clean:  ## Remove what was built; keeps .car_damage, which holds your tables and models
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
