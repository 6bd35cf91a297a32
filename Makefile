# The few commands of the day. Needs Python 3.11 or later and pip.
PYTHON ?= python3
VENV := .venv
# Rules call `python`; this makes it the environment's.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# One thread per test: the suite's own jobs share the cores.
TEST_ENV := OMP_NUM_THREADS=1
# Test files that run side by side.
WORKERS ?= 2

.PHONY: env demo test quick faults lint format docs site pull record clean

env: $(VENV)/.stamp

$(VENV)/.stamp: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[workflow,dev,encoders]'
	touch $@

# make demo VERBOSE=1: with Snakemake's own lines instead of bars.
demo: env
	python scripts/demo.py --verbose=$(VERBOSE)

test: env
	$(TEST_ENV) pytest -q -n $(WORKERS) --dist loadfile

# Without the suites of the whole workflow, in tests/system.
quick: env
	$(TEST_ENV) pytest -q -n $(WORKERS) --dist loadfile -m "not system"

# The fault suites with all tries, and the table of what survived; half an hour.
FAULT_LOG := $(CURDIR)/build/faults.jsonl
FAULT_SUITES := $(wildcard $(addprefix tests/system/test_,faults_*.py offline.py slurm.py fuzz.py security.py))
faults: env
	mkdir -p $(dir $(FAULT_LOG)) && rm -f $(FAULT_LOG)
	$(TEST_ENV) FLOWGMM_FAULTS=all FLOWGMM_FAULT_LOG=$(FAULT_LOG) pytest -q -n $(WORKERS) --dist loadfile $(FAULT_SUITES) \
		tests/system/test_workflow.py::test_killed_in_the_middle_it_goes_on_to_the_same_bits
	python scripts/faults.py --log $(FAULT_LOG) --output docs/faults.md

lint: env
	ruff check .
	ruff format --check .
	snakefmt --check workflow
	mypy
	lint-imports --no-logo
	snakemake --lint
	$(MAKE) site

format: env
	ruff check --fix .
	ruff format .
	snakefmt workflow

# What has a table in results/ goes to docs/results, and from there into the pages of results.
docs: env
	python scripts/publish.py --recipes \
		$(sort $(foreach table,$(wildcard results/*/tables/*.csv),$(word 2,$(subst /, ,$(table)))))
	python scripts/make_pages.py
	$(MAKE) site

# The documentation, in build/site; a broken link is an error.
site: env
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

# Data, runs, tables and what Snakemake knows of them, as dvc.lock has them. One time for all files:
# those too large to be compared by content would else seem newer than what was made from them.
pull: env
	dvc pull
	now=$$(date -Is) && find results -type f -exec touch -d "$$now" {} +

# After a run by hand or on a cluster, with the recipe that config/config.yaml names.
record: env
	mkdir -p results/raw
	dvc commit --force data results
	dvc repro publish
	@echo 'Next: git add dvc.lock docs/results && git commit, then dvc push.'

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
