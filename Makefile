# The few commands of the day. Needs Python 3.11 or later and pip.
PYTHON ?= python3
VENV := .venv
# Rules call `python`; this makes it the environment's.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# One thread per test: the suite's own jobs share the cores.
TEST_ENV := OMP_NUM_THREADS=1

.PHONY: env demo test lint format docs clean

env: $(VENV)/.stamp

$(VENV)/.stamp: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[workflow,dev,encoders]'
	touch $@

demo: env
	snakemake --profile local --quiet rules -- demo
	python scripts/show.py --target demo

test: env
	$(TEST_ENV) pytest -q

lint: env
	ruff check .
	ruff format --check .
	snakefmt --check workflow
	mypy
	snakemake --lint

format: env
	ruff check --fix .
	ruff format .
	snakefmt workflow

# The README's tables and picture, from the results that are there.
docs: env
	python scripts/readme.py

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
