# make demo        extract representations from the bundled speech, offline, and draw them
# make test        everything that must pass: style, types, tests
# make test-quick  style and quick tests, while you work
# make test-all    as make test, with everything that it samples: kill points, trainings, notebooks
# make installs    install each extra alone, and the lowest versions allowed, and use them
# make docs        the documentation as a site, in site/
# make cards       regenerate the model cards and the README's tables
# make clean       remove .venv, demo and site

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Tests start Python many times, and two workers read the same tests: compiled files are kept.
export PYTHONDONTWRITEBYTECODE :=

PYTEST = $(BIN)/pytest --numprocesses auto --no-loadscope-reorder

.PHONY: demo test test-quick test-all style types tests installs docs cards clean

demo: $(VENV)/demo-installed
	$(BIN)/auricle demo --out demo

# Types are checked beside the tests, which leave some of the processors idle at times.
test: $(VENV)/test-installed style
	$(MAKE) --no-print-directory --jobs 2 types tests

test-quick: $(VENV)/test-installed style
	$(PYTEST) -m "not slow"

test-all: $(VENV)/test-installed style
	$(MAKE) --no-print-directory --jobs 2 types tests WHOLE=--whole

style: $(VENV)/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test-installed
	$(BIN)/mypy

tests: $(VENV)/test-installed
	AURICLE_SCREENSHOTS=$(CURDIR)/screenshots $(PYTEST) $(WHOLE)

installs: $(VENV)/test-installed
	$(BIN)/python tools/check_installs.py

docs: $(VENV)/docs-installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html"

cards: $(VENV)/test-installed
	$(BIN)/python tools/model_cards.py

clean:
	rm -rf $(VENV) demo site

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[plot]'
	touch $@

$(VENV)/test-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[dev]'
	touch $@

$(VENV)/docs-installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[docs]'
	touch $@
