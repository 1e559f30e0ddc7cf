# Every target does all its own set-up: uv, the virtual environment, the pinned packages.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Bytecode is written, whatever the environment says: a test run starts two hundred Python processes.
export PYTHONDONTWRITEBYTECODE :=
# Most tests wait for servers: three processes, each with servers of its own, keep two cores busy. They take file
# after file. With `-x` all stop after the first failure.
ALL_TESTS := --numprocesses 3 --dist loadfile --no-loadscope-reorder

# All but `pipelines`: those tools run Driftline's commands from an environment of their own.
EXTRAS := dev embedded explain ray registry tracing training

.DEFAULT_GOAL := help

$(READY): requirements.lock pyproject.toml
	@command -v uv >/dev/null || $(PYTHON) -m pip install --quiet uv || $(PYTHON) -m pip install --quiet --user --break-system-packages uv
	@export PATH="$$PATH:$$($(PYTHON) -m site --user-base)/bin"; \
	  { [ -x $(BIN)/python ] || uv venv --quiet --python $(PYTHON) .venv; } && \
	  uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock && \
	  uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

.PHONY: demo test check bench chaos lock help format setup

demo: $(READY)  ## Run the whole system on a year of flights (ARGS="--max --summary out.json")
	@$(BIN)/driftline demo $(ARGS)

test: $(READY)  ## Run all tests against real servers (ARGS="-k name": some of them, in one process)
	@$(BIN)/python -m pytest $(or $(ARGS),$(ALL_TESTS))

check: $(READY)  ## Format, lint, types, layers, deployment files, then all tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory test

bench: $(READY)  ## Compare with the alternatives, side by side in one run (ONLY=scoring; ONLY=soak takes many minutes)
	@$(BIN)/python -m bench $(ONLY)

chaos: $(READY)  ## Run the demo under kills, restarts, garbage and edits, against a calm run (ARGS="--seeds 1 2 3 --until 2013-04-01")
	@$(BIN)/python -m tests.chaos $(ARGS)

format: $(READY)  ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup: $(READY)  ## Only install

lock:  ## Pin all packages again from pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  $(addprefix --extra ,$(EXTRAS)) pyproject.toml --output-file requirements.lock
	@# Without the dependencies of Driftline, which are in the environment of its own.
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["pipelines"], sep="\n")' \
	  | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command "make lock" - --output-file requirements-pipelines.lock

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10
