# Every verb of posttrain. `make help` lists them; each sets up what it needs first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FLOWS := $(BIN)/python -m flows

METHOD ?= dpo
SETTINGS = $(if $(DATA),data.name=$(DATA)) $(SET)

.PHONY: help setup pipeline data import validate grade ui up down bench test lint lock clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make the virtual environment (every other verb does it by itself)

# pip takes torch, so that its own configuration decides between a CPU and a CUDA build; uv takes the rest, four times as quickly.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "posttrain needs Python 3.11, 3.12 or 3.13, this is " + sys.version)'
	@echo "setting up $(VENV), once: about two minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt --editable '.[dev]'
	@touch $@

pipeline: $(READY) ## run one method: METHOD=dpo|sft DATA=name SET="dpo.beta=0.2 seed=1"
	@$(FLOWS) pipeline method=$(METHOD) $(SETTINGS)

data: $(READY) ## bring a dataset up to date: DATA=name (default: the tiny world)
	@$(FLOWS) data $(SETTINGS)

import: $(READY) ## make a dataset of a file: FORMAT=gsm8k FILE=train.jsonl NAME=gsm8k MAP="prompt=question" SKIP_BAD=1
	@$(FLOWS) import format="$(FORMAT)" file="$(FILE)" name="$(NAME)" map="$(MAP)" skip_bad="$(SKIP_BAD)"

validate: $(READY) ## check a dataset without training: DATA=name
	@$(FLOWS) validate $(SETTINGS)

grade: $(READY) ## grade a file of completions without a model: GRADER=answer FILE=samples.jsonl OUT=audit.jsonl
	@$(FLOWS) grade grader="$(GRADER)" file="$(FILE)" out="$(OUT)"

ui: $(READY) ## serve MLflow's page on http://127.0.0.1:5000 (PORT=5001)
	@PORT=$(PORT) $(FLOWS) ui

up: $(READY) ## start Prefect's server on http://127.0.0.1:4200 (PORT=4201)
	@PORT=$(PORT) $(FLOWS) up

down: $(READY) ## stop Prefect's server
	@$(FLOWS) down

bench: $(READY) ## print the figures that the README states, measured here
	@$(BIN)/python -m benchmarks.pipeline

test: $(READY) ## run the tests
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

lint: $(READY) ## check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

lock: $(READY) ## resolve the dependencies anew into constraints.txt
	@$(BIN)/uv lock --quiet
	@$(BIN)/uv export --quiet --no-hashes --no-emit-project --all-extras --no-annotate --no-header -o constraints.txt
	@rm -f uv.lock

clean: ## remove what can be made again: the environment, stage results, reports (not data, not MLflow's store)
	rm -rf $(VENV) .posttrain reports .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
