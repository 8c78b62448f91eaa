# `make quickstart` and `make test` do all that is needed on a fresh machine with Python 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# uv takes a third of pip's time; pip is for where it cannot reach its index, since it does not read pip.conf.
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --editable '$(1)' || $(PIP) --editable '$(1)'
CODE := conftest.py src tests benchmarks docs examples experiments  # not what a user writes beside it

.DEFAULT_GOAL := help
.PHONY: quickstart test test-commands test-system check bench docs docs-check assets clean help

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version): make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "No virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/installed: pyproject.toml | $(BIN)/python
	@echo "Installing iin-lightning into $(VENV) (torch is large: a few minutes)"
	@$(PIP) uv
	@$(call INSTALL,.)
	@touch $@

$(VENV)/installed-dev: pyproject.toml $(VENV)/installed
	@$(call INSTALL,.[dev])
	@touch $@

quickstart: $(VENV)/installed  ## environment, install, the interpretation of an autoencoder of ColorMNIST, pictures
	$(BIN)/python -m iin_lightning.train name=quickstart

test: $(VENV)/installed-dev  ## environment, install, laws, known answers, golden numbers, one run of each kind: four minutes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # else files of few, long tests come last

test-commands: $(VENV)/installed-dev  ## commands as a user types them: sweeps, faults, ranks, W&B offline
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m commands

test-system: $(VENV)/installed-dev  ## servers, launchers, UMAP, pages in Chromium (Debian: apt install chromium chromium-driver)
	@$(call INSTALL,.[embed])
	$(BIN)/python -m pytest -m system

check: $(VENV)/installed-dev  ## format, lint, types, arrows between the rooms
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-dev  ## what takes too long for a test: benchmarks/, one after the other (a look: ARGS=--short)
	@code=0; for script in $(filter-out %/common.py,$(wildcard benchmarks/*.py)); do \
	  echo "== $$script"; $(BIN)/python $$script $(ARGS) || code=1; done; exit $$code

docs: $(VENV)/installed-dev  ## the documentation, in site/: open site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

docs-check: $(VENV)/installed-dev  ## run every command and all code of README, docs/ and examples/ (one page: PAGES=tutorial)
	$(BIN)/python docs/_scripts/check.py $(PAGES)

ASSETS := src/iin_lightning/assets/models
assets: $(VENV)/installed  ## train anew what the quickstart explains and what judges it, from a clean checkout
	rm -rf $(ASSETS)
	$(BIN)/python -m iin_lightning.train name=assets model.steps=1 paths.models=$(ASSETS) paths.outputs=outputs/assets
	rm -rf $(ASSETS)/*.lock $(ASSETS)/*/*.lock $(ASSETS)/*/checkpoints $(ASSETS)/*/figures $(ASSETS)/*/metrics.csv
	sed -i '/"signature"/d' $(ASSETS)/*/model/model.json  # which is the user's own

clean:  ## remove the environment and all caches; runs, models and data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist cache site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
