# make demo      extract representations from the bundled speech, offline, and draw them
# make test      everything that must pass: style, types, tests
# make installs  install each extra alone, and the lowest versions allowed, and use them
# make docs      the documentation as a site, in site/
# make cards     write the model cards and the README's table of the small encoders anew
# make clean     remove what the others made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test installs docs cards clean

demo: $(VENV)/demo-installed
	$(BIN)/auricle demo --out demo

test: $(VENV)/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	AURICLE_SCREENSHOTS=$(CURDIR)/screenshots $(BIN)/pytest --numprocesses auto

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
