# make demo        extract representations from the bundled speech, offline, and draw them
# make test        everything that must pass: style, types, tests
# make test-quick  style and quick tests, while you work
# make test-all    as make test, with everything that it samples: kill points, trainings, notebooks
# make installs    install each extra alone, and the lowest versions allowed, and use them
# make judges      run other software on the library, each in an environment of its own
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

# Tests that mostly wait, for a browser and for Ray, and leave a processor to others.
WAITING := tests/explore/test_page.py tests/explore/test_page_browser.py tests/extraction/test_engines.py

.PHONY: demo test test-quick test-all style types tests waiting installs judges docs cards clean

demo: $(VENV)/demo-installed
	$(BIN)/auricle demo --out demo

# Beside the tests, which keep all processors busy, types are checked and other tests wait.
test: $(VENV)/test-installed style
	$(MAKE) --no-print-directory --jobs 3 types waiting tests

test-quick: $(VENV)/test-installed style
	$(PYTEST) -m "not slow"

test-all: $(VENV)/test-installed style
	$(MAKE) --no-print-directory --jobs 3 types waiting tests WHOLE=--whole

style: $(VENV)/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/test-installed
	$(BIN)/mypy

tests: $(VENV)/test-installed
	$(PYTEST) $(addprefix --ignore=,$(WAITING)) $(WHOLE)

# Its report comes at its end and in one piece, not among the lines of the tests beside it.
waiting: export AURICLE_SCREENSHOTS := $(CURDIR)/screenshots
waiting: export OMP_NUM_THREADS := 1
waiting: $(VENV)/test-installed
	@report=$$($(BIN)/pytest --quiet $(WAITING) $(WHOLE) 2>&1); status=$$?; \
	printf '\n%s\n' "$$report"; exit $$status

installs: $(VENV)/test-installed
	$(BIN)/python tools/check_installs.py

judges: $(VENV)/test-installed
	$(BIN)/python tools/judges/run.py

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
