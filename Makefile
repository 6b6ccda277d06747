# Every target does its own set-up: it needs Python 3.11, make and git, and a package index.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   the main job, on real flights"
	@echo "make test   the tests"
	@echo "make lint   formatting, lint, types, import directions"
	@echo "make bench  timings beside other caches, as ratios"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One stamp an extra, so that a second run starts at once.
$(VENV)/installed-%: pyproject.toml | $(VENV)/bin/python
	@echo "installing persicache[$*] (a minute or two, the first time)"
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

demo: $(VENV)/installed-demo
	$(VENV)/bin/python -m demo

test: $(VENV)/installed-test
	$(VENV)/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/installed-lint
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/basedpyright
	$(VENV)/bin/lint-imports

bench: $(VENV)/installed-bench
	$(VENV)/bin/python -m tests.benchmarks

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
