# Needs Python >= 3.11 and make; everything else goes into virtual environments inside this folder.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
CODEGEN := .venv-codegen
CODEGEN_INSTALLED := $(CODEGEN)/.installed
NODE_TESTS := tests/interop/node
NODE_INSTALLED := $(NODE_TESTS)/node_modules/.installed

# What is formatted, linted and type-checked: whichever of these folders exist.
PYTHON_TREES := $(wildcard client broker tests bench examples scripts)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ set up

.PHONY: install
install: $(INSTALLED) ## Make .venv: both distributions, editable, and all development tools

$(INSTALLED): constraints.txt requirements/dev.txt client/pyproject.toml broker/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Towline needs Python 3.11 or newer, and '$(PYTHON)' is not that. Name one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	@echo "install: Python packages into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq -c constraints.txt -r requirements/dev.txt
	@# The build backend was just installed at its pinned version, so no isolated, unpinned one is fetched.
	@$(PIP) install -qq -c constraints.txt --no-build-isolation -e './client[cli]' -e './broker[testing]'
	@touch $@

$(CODEGEN_INSTALLED): requirements/codegen.txt $(INSTALLED)
	@echo "install: code generators into $(CODEGEN)"
	@$(PYTHON) -m venv $(CODEGEN)
	@$(CODEGEN)/bin/python -m pip --disable-pip-version-check install -qq -r requirements/codegen.txt
	@touch $@

.PHONY: proto
proto: $(CODEGEN_INSTALLED) ## Regenerate client/src/towline/v1 from protos/
	@$(CODEGEN)/bin/python scripts/generate.py
