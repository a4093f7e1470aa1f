# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
# Other data, another root: a root's sources are append-only.
ROOT ?= roots/$(if $(DATA),$(notdir $(patsubst %/,%,$(DATA))),demo)
export PATH := $(CURDIR)/$(BIN):$(PATH)

DEMO_EXTRAS := dagster,lightgbm,profiles,triton
TEST_EXTRAS := dagster,lightgbm,profiles,triton,sketches,spark,kafka,redis,lineage,aws,dev

.PHONY: demo dev test jars check bench format clean constraints

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# A stamp per set of extras: installing again is only needed when the pins or the project's metadata change.
$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing ml_platform with [$(DEMO_EXTRAS)] (once)"
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(DEMO_EXTRAS)]'
	@touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing ml_platform with [$(TEST_EXTRAS)] (once)"
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(TEST_EXTRAS)]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo  ## the main job, on the simulated market or on DATA=folder
	$(BIN)/mlp demo --root $(ROOT) $(if $(DATA),--data $(DATA))

dev: $(VENV)/.demo  ## Dagster's UI on the state that the demo left
	$(BIN)/mlp dev --root $(ROOT)

# A folder of jars for each pom: copied with Maven once, and again when the pom changes. Without Maven their tests skip.
.cache/jars/%/.copied: deploy/jars/%/pom.xml
	@command -v mvn >/dev/null || { echo "Maven is not installed: no jars for $*"; exit 0; }; \
	echo "copying the jars for $* (once)" && rm -rf $(@D) && \
	mvn -B -ntp -q -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(@D) && touch $@

jars: $(patsubst deploy/%/pom.xml,.cache/%/.copied,$(wildcard deploy/jars/*/pom.xml))  ## connectors of Spark

test: $(VENV)/.test jars  ## all tests; the slow end-to-end ones last
	$(BIN)/python -m pytest -n 2 -m "not slow" tests
	$(BIN)/python -m pytest -m slow tests

check: $(VENV)/.test  ## style, types, architecture; under a minute
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/architecture

bench: $(VENV)/.test  ## every figure we claim
	@set -e; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file; done

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .cache roots build dist *.egg-info
