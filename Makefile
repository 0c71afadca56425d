# Every verb of posttrain: `make help` lists them; each sets up what it needs first. Verbs and their variables: flows/verbs.py.
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv

# What stands on the command line is text: neither make nor a shell may read it as its own language. It is kept unexpanded,
# and recipes take it from the environment, in quotation marks. `override`: nor may it replace what checks it.
override GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
$(foreach name,$(filter-out GIVEN,$(GIVEN)),$(eval override $$(name) := $$(value $$(name))))
override SHELL := /bin/bash
override .SHELLFLAGS := -c
override quoted = '$(subst ','\'',$1)'
override given = $(foreach name,$1,$(if $(filter $(name),$(GIVEN)),$(name)="$$$(name)"))

# Before anything runs: a variable that no goal takes, or a goal that is no verb, ends here.
override program := $(foreach word,$(value PYTHON),$(call quoted,$(word)))
override checked := $(shell $(program) -m flows.verbs check $(call quoted,$(MAKECMDGOALS)) $(call quoted,$(value VENV)) \
	$(foreach name,$(GIVEN),$(call quoted,$(name)=$(value $(name)))))
ifeq ($(checked),refused)
$(error nothing was run)
else ifneq ($(checked),checked)
$(error $(value PYTHON) cannot read flows/verbs.py: posttrain needs Python 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.12)
endif
$(foreach name,$(GIVEN),$(eval export $(name)))

BIN := $(VENV)/bin
READY := $(VENV)/.ready
FLOWS := $(BIN)/python -m flows

.PHONY: help setup pipeline compare advise scale data import label validate settings ask chat ab export serve labels grade monitor retrain schedule deploy promote rollback history ui up down status doctor backup restore bench test lint lock clean

ifneq ($(filter help,$(MAKECMDGOALS)),)  # `make help pipeline` tells of pipeline, and runs nothing
help:
	@$(program) -m flows.verbs help $(filter-out help,$(MAKECMDGOALS))

$(filter-out help,$(MAKECMDGOALS)):
	@:
else
help:
	@$(program) -m flows.verbs help

setup: $(READY)

# pip takes torch, so that its own configuration decides between a CPU and a CUDA build; uv takes the rest, four times as quickly.
$(READY): pyproject.toml constraints.txt
	@$(program) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "posttrain needs Python 3.11, 3.12 or 3.13, this is " + sys.version)'
	@echo "setting up $(VENV), once: about two minutes"
	@test -x $(BIN)/python || $(program) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -c constraints.txt --editable '.[dev]'
	@touch $@

pipeline: $(READY)
	@$(FLOWS) pipeline $(call given,METHOD DATA SET)

compare: $(READY)
	@$(FLOWS) compare $(call given,METHODS SEEDS DATA SET BUDGET TUNE WORKERS RUNNER DRY_RUN LOGS)

advise: $(READY)
	@$(FLOWS) advise $(call given,DATA METHODS SET OUT)

scale: $(READY)
	@$(FLOWS) scale $(call given,MODEL METHOD GPUS GB SET)

data: $(READY)
	@$(FLOWS) data $(call given,DATA SET)

import: $(READY)
	@$(FLOWS) import $(call given,FORMAT FILE NAME MAP HELD_OUT SKIP_BAD)

label: $(READY)
	@$(FLOWS) label $(call given,DATA METHOD BATCH PER_ITEM PEOPLE PORT NEW LINKS REVOKE SET)

validate: $(READY)
	@$(FLOWS) validate $(call given,DATA SET)

settings: $(READY)
	@$(FLOWS) settings $(call given,METHOD DATA SET)

ask: $(READY)
	@$(FLOWS) ask $(call given,PROMPT MODELS VERSION TEMPERATURE FILE FORMAT MAP DATA SET)

chat: $(READY)
	@$(FLOWS) chat $(call given,MODEL TEMPERATURE DATA SET)

ab: $(READY)
	@$(FLOWS) ab $(call given,MODELS NAME TEMPERATURE DATA SET)

export: $(READY)
	@$(FLOWS) export $(call given,VERSION FORMAT TYPE TO FORCE DATA SET)

serve: $(READY)
	@$(FLOWS) serve $(call given,VERSION PORT DATA SET)

labels: $(READY)
	@$(FLOWS) labels $(call given,DATA OUT FINISH BATCH EXPORT IMPORT FILE FORCE SET)

grade: $(READY)
	@$(FLOWS) grade $(call given,GRADER FILE OUT FORCE)

retrain: $(READY)
	@$(FLOWS) retrain $(call given,METHOD DATA SET FORCE)

promote: $(READY)
	@$(FLOWS) promote $(call given,VERSION WHY DATA FORCE SET)

rollback: $(READY)
	@$(FLOWS) rollback $(call given,WHY DATA SET)

history: $(READY)
	@$(FLOWS) history $(call given,DATA SET)

monitor: $(READY)
	@$(FLOWS) monitor $(call given,FILE DATA FORMAT MAP SET)

schedule: $(READY)
	@$(FLOWS) schedule $(call given,METHOD DATA CRON TZ ON FILE FORMAT MAP SET UNTIL RUNS CATCH_UP NAME POOL PAUSE RESUME DELETE)

deploy: $(READY)
	@$(FLOWS) deploy $(call given,POOL NAME IMAGE TO FORCE)

ui: $(READY)
	@$(FLOWS) ui $(call given,PORT OPEN)

up: $(READY)
	@$(FLOWS) up $(call given,PORT UNIT SET)

down: $(READY)
	@$(FLOWS) down

status: $(READY)
	@$(FLOWS) status

doctor: $(READY)
	@$(FLOWS) doctor $(call given,FIX DEEP SET)

backup: $(READY)
	@$(FLOWS) backup $(call given,TO ALL SET)

restore: $(READY)
	@$(FLOWS) restore $(call given,FROM FORCE SET)

bench: $(READY)
	@$(BIN)/python -m benchmarks.study

test: $(READY)
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

lock: $(READY)
	@$(BIN)/uv lock --quiet
	@$(BIN)/uv export --quiet --no-hashes --no-emit-project --all-extras --no-annotate --no-header -o constraints.txt
	@rm -f uv.lock

ifneq ($(filter KEEP APPLY,$(GIVEN)),)  # what is old and needed by nothing
clean: $(READY)
	@$(FLOWS) clean $(call given,KEEP APPLY SET)
else
clean: # not data, MLflow's store, schedules and a restore that was stopped; nor a VENV that is no virtual environment
	@if test -d $(VENV) && ! test -f $(VENV)/pyvenv.cfg; then echo "VENV=$(VENV) has no pyvenv.cfg, so it is no environment to remove" >&2; exit 2; fi
	@if ls .posttrain/keeping/restore.* >/dev/null 2>&1; then echo "a restore is at work, or was stopped; settle it first: make status" >&2; exit 2; fi
	@if test -x $(BIN)/python && test -d .posttrain/services; then $(FLOWS) down; fi # whose notes and databases lie there
	@if test -d .posttrain; then find .posttrain -mindepth 1 -maxdepth 1 ! -name prefect ! -name schedules ! -name labels -exec rm -rf {} +; fi
	rm -rf $(VENV) reports .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
endif
endif
