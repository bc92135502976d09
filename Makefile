# Each target sets itself up in .venv; nothing but make and Python 3.11 (with venv and pip) need be there.
# `make PYTHON=python3.12 test` chooses the interpreter.

PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install -qq
DEMO_OUTPUT ?= demo-output
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs format clean

help:  ## what there is to make
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

demo: .venv/demo.stamp  ## five minutes with real pictures; writes demo-output/
	@$(PY) -m aidb demo '$(DEMO_OUTPUT)' $(ARGS)

test: .venv/dev.stamp  ## all tests; ARGS='-k name -x' goes to pytest
	$(PY) -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

lint: .venv/dev.stamp  ## style, types and layers
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports

bench: .venv/dev.stamp  ## measure, in some minutes; ARGS='name --json' for one of benchmarks/
	$(PY) -m benchmarks --quick $(ARGS)

docs: .venv/docs.stamp  ## the pages of docs/ as a site in site/, to be read in a browser; fetches nothing
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build
	@echo 'open site/index.html; with search: $(PY) -m http.server --directory site'

format: .venv/dev.stamp  ## rewrite the code in house style
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

clean:  ## remove all that these targets made
	rm -rf .venv demo-output dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than the files that it depends on exactly if the installation follows them.
.venv/demo.stamp: pyproject.toml constraints.txt | $(PY)
	@echo "installing AIDB and what the demo needs into .venv (once; under a minute with a good connection)"
	@$(PIP) -e '.[demo]' -c constraints.txt
	@touch $@

.venv/docs.stamp: pyproject.toml constraints.txt | $(PY)
	@$(PIP) -e '.[docs]' -c constraints.txt
	@touch $@

# ultralytics asks for opencv-python, which unpacks over the headless build and then needs libGL and a desktop's
# libraries to be imported at all. The two have one version, so the headless files go on top and both are satisfied.
.venv/dev.stamp: pyproject.toml constraints.txt | $(PY)
	@echo "installing AIDB with all extras into .venv (once; some minutes: torch is large)"
	@$(PIP) -e '.[all,dev]' -c constraints.txt
	@$(PIP) --force-reinstall --no-deps opencv-python-headless -c constraints.txt
	@touch .venv/demo.stamp .venv/docs.stamp $@

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "AIDB needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	    "Name another one: make PYTHON=python3.11 <target>" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "could not make .venv: is the venv module installed (on Debian: apt install python3-venv)?" >&2; exit 1; }
