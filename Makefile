# make demo   the main job on the shipped example
# make test   lint, format, types, tests
# python3 where its version fits, else the newest that does
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
  $$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo $$p && exit; \
  done; echo python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
TESTS  ?= tests

DEMO_PORTRAIT := examples/astronaut.png
DEMO_SPEECH   := examples/hello.wav
DEMO_VIDEO    := out/demo.mp4

.PHONY: help demo test lint typecheck pytest format docs clean

help:
	@sed -n 's/^# make /make /p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info[:2] <= (3, 12); sys.exit(None if ok else \
	  "avatar needs Python 3.10, 3.11 or 3.12, and %s is %d.%d: try make PYTHON=python3.11" % ((sys.executable,) + sys.version_info[:2]))'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing packages into $(VENV) (the first time: a few minutes)"
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing packages and the development tools into $(VENV) (the first time: a few minutes)"
	$(PIP) --editable '.[curate,dev,study,train]'
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	@mkdir -p $(dir $(DEMO_VIDEO))
	$(BIN)/avatar animate $(DEMO_PORTRAIT) $(DEMO_SPEECH) -o $(DEMO_VIDEO) --emotion happy:0.4 --overwrite
	@echo "the video is at $(abspath $(DEMO_VIDEO))"

test: lint typecheck pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(VENV)/.installed-dev
	$(BIN)/mypy

pytest: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not slow and not gpu" $(TESTS)

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# the command line's help text, kept in docs/cli.md; a test checks that it is current
docs: $(VENV)/.installed-dev
	$(BIN)/python scripts/write_cli_docs.py

clean:
	rm -rf $(VENV) out build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
