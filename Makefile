# make run    install everything into .venv, then draw, inspect and repair the built-in prompts
# make test   install everything into .venv, then lint, type-check, run the tests (the documentation is built there too)
# make docs   build the documentation to build/site
#
# Variables: PYTHON (3.11 or newer), VENV, ARGS (of refine run), JOBS (test processes),
#            TORCH_INDEX (package index that torch alone is taken from; empty: the default one).

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
JOBS ?= 2
SOURCES := refine configs controllers evals generators

PY := $(abspath $(VENV))/bin/python
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test docs install lint types tests slow coverage constraints clean

help:
	@sed -n '1,6s/^# \{0,1\}//p' Makefile

run: install
	$(PY) -m refine run $(ARGS)

test: install lint types tests

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "refine needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	PYTHON=$(PY) .ci/install-torch
	$(PY) -m pip install --quiet -c constraints.txt setuptools
	$(PY) -m pip install --quiet -c constraints.txt --no-build-isolation -e ".[dev,train,ui,docs]"
	touch $@

lint: $(INSTALLED)
	$(PY) -m ruff check .

# mypy reads packages as folders: give it the shape of the wheel.
types: $(INSTALLED)
	rm -rf build/types && mkdir -p build/types/refine
	ln -s $(CURDIR)/refine/* $(addprefix $(CURDIR)/,$(filter-out refine,$(SOURCES))) build/types/refine/
	cd build/types && $(PY) -m mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache -p refine

tests: $(INSTALLED)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS) --dist loadfile

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --clean

slow: $(INSTALLED)
	$(PY) -m pytest -q -m slow

coverage: $(INSTALLED)
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS) --dist loadfile --cov --cov-report=term-missing

constraints: $(INSTALLED)
	{ sed -n '/^#/p' constraints.txt; $(PY) -m pip freeze --all --exclude-editable | sed '/^pip==/d; s/^\(torch==[0-9.]*\)+.*/\1/' | sort -f; } > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
