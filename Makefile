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
FUZZ := .venv-fuzz
FUZZ_INSTALLED := $(FUZZ)/.installed
PEERS := .venv-peers
PEERS_INSTALLED := $(PEERS)/.installed
NODE_TESTS := tests/interop/node
NODE_INSTALLED := $(NODE_TESTS)/node_modules/.installed

# More than there are processors: tests wait for other processes most of their time.
TEST_WORKERS ?= $(shell $(PYTHON) -c 'import os; print(max(2, (os.cpu_count() or 1) * 3 // 2))')

# What is formatted, linted and type-checked: whichever of these folders exist.
PYTHON_TREES := $(wildcard client broker tests bench examples scripts)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) ## Make .venv: both distributions, editable, and all development tools

$(INSTALLED): constraints.txt requirements/dev.txt client/pyproject.toml broker/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Towline needs Python 3.11 or newer, and '$(PYTHON)' is not that. Name one, as in: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	@echo "install: Python packages into $(VENV)"
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install -qq -c constraints.txt -r requirements/dev.txt
	@# The build backend was just installed at its pinned version, so no isolated, unpinned one is fetched.
	@$(PIP) install -qq -c constraints.txt --no-build-isolation -e './client[cli,msgpack,reload]' -e './broker[all,testing]'
	@touch $@

$(CODEGEN_INSTALLED): requirements/codegen.txt $(INSTALLED)
	@echo "install: code generators into $(CODEGEN)"
	@$(CODEGEN)/bin/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(CODEGEN)
	@$(CODEGEN)/bin/python -m pip --disable-pip-version-check install -qq -r requirements/codegen.txt
	@touch $@

.PHONY: node-deps
ifeq ($(wildcard $(NODE_TESTS)/package.json),)
node-deps:
else
node-deps: $(NODE_INSTALLED) ## Install what the tests in Node need
endif

$(NODE_INSTALLED): $(NODE_TESTS)/package.json
	@if command -v npm >/dev/null 2>&1; then \
	  echo "install: Node packages into $(NODE_TESTS)" && \
	  cd $(NODE_TESTS) && npm install --no-audit --no-fund --no-package-lock --silent && touch node_modules/.installed; \
	elif [ "$$CI" = true ]; then \
	  echo "node-deps: Node and npm are required in CI (the tests of other gRPC clients need them)" >&2; exit 1; \
	else \
	  echo "node-deps: no npm here, so the tests that drive the broker from Node are skipped" >&2; \
	fi

.PHONY: proto
proto: $(CODEGEN_INSTALLED) ## Regenerate client/src/towline/v1 from protos/
	@$(CODEGEN)/bin/python scripts/generate.py

.PHONY: test
test: install node-deps ## Run all tests, in parallel and in random order (ARGS="-k name" narrows)
	@$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal $(ARGS)

.PHONY: verify
verify: format-check lint types imports proto-lint proto-breaking proto-check sdk-only docs-check guard ## Run every check that is not a test

.PHONY: format
format: install ## Format the code
	@$(BIN)/ruff format -q $(PYTHON_TREES)
	@$(BIN)/ruff check -q --select I --fix $(PYTHON_TREES)

.PHONY: format-check
format-check: install
	@$(BIN)/ruff format --check $(PYTHON_TREES)

.PHONY: lint
lint: install ## Check style and likely bugs (ruff)
	@$(BIN)/ruff check $(PYTHON_TREES)

.PHONY: types
types: install ## Check types (mypy --strict)
	@$(BIN)/mypy $(PYTHON_TREES)

.PHONY: imports
imports: install ## Check which room may import which (import-linter)
	@$(BIN)/lint-imports --no-logo

.PHONY: proto-lint
proto-lint: install ## Check the contract's style (buf lint)
	@cd protos && ../$(BIN)/buf lint && echo "buf lint: the contract is clean"

.PHONY: proto-breaking
proto-breaking: install ## Check that the contract breaks no client of the last release (buf breaking)
	@BUF=$(BIN)/buf scripts/proto-breaking

.PHONY: proto-check
proto-check: $(CODEGEN_INSTALLED) ## Check that the committed generated code is what protos/ generates
	@$(CODEGEN)/bin/python scripts/generate.py --check

.PHONY: sdk-only
sdk-only: install ## Check that the SDK, installed alone, brings grpcio and protobuf only
	@$(BIN)/python scripts/sdk_only.py

.PHONY: guard
guard: install ## Check that the hot paths execute no more per job than agreed (ARGS=--update: agree to what is)
	@$(BIN)/python -m bench.guard $(ARGS)

.PHONY: dist
dist: install ## Build wheels, sdists and bills of materials into dist/: the same bytes for the same commit
	@$(BIN)/python -m scripts.dist $(ARGS)

.PHONY: licences
licences: install ## Write docs/dependencies.md anew, after a dependency came, went or changed its version
	@$(BIN)/python -m scripts.licences

.PHONY: floors
floors: install ## Run a part of the tests with the lowest versions that the distributions admit (needs an index)
	@$(BIN)/python -m scripts.floors $(ARGS)

.PHONY: demo
demo: install ## Watch jobs run: a broker, two workers, one of them killed half-way
	@$(BIN)/python examples/stdlib_census/demo.py

.PHONY: run
run: install ## Run a broker in this folder until Ctrl-C
	@$(BIN)/towline-broker serve

.PHONY: settings-docs
settings-docs: install ## Rewrite what docs/configuration.md says of every setting and of mistakes
	@$(BIN)/python -m tests.configuration.page

.PHONY: docs
docs: install ## Build the documentation site from docs/, as build/docs/index.html
	@$(BIN)/python -m sphinx -b html -E -W --keep-going -q -c scripts/site -d build/doctrees . build/docs
	@echo "docs: file://$(CURDIR)/build/docs/index.html"

.PHONY: docs-check
docs-check: install ## Check that the documentation site would build, without writing it
	@$(BIN)/python -m sphinx -b dummy -E -W --keep-going -q -c scripts/site -d build/check . build/check

.PHONY: docs-serve
docs-serve: docs ## Build the documentation site, and serve it on http://127.0.0.1:8000 (PORT=...)
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/docs $${PORT:-8000}

.PHONY: exits-docs
exits-docs: install ## Rewrite docs/exit-codes.md, after a change of what exit codes mean
	@$(BIN)/python -m scripts.exit_codes_page

.PHONY: contract-docs
contract-docs: install ## Rewrite docs/contract.md, after a change of the contract
	@$(BIN)/python -m scripts.contract_page

.PHONY: bench
bench: install ## Measure everything, and write docs/performance.md (ARGS=--quick: two minutes, printed only)
	@$(MAKE) --no-print-directory bench-peers || echo "bench: goes on without other libraries" >&2
	@$(MAKE) --no-print-directory bench-servers
	@$(BIN)/python -m bench $(ARGS)

.PHONY: bench-peers
bench-peers: install $(PEERS_INSTALLED) ## Bring the libraries and clients that Towline is measured beside

.PHONY: bench-servers
bench-servers: install ## Bring the brokers that Towline is measured beside, as Debian's packages, without installing them
	@$(BIN)/python -m bench.servers.debian

.PHONY: bench-across
bench-across: install ## Measure the way from a Push at one broker to a worker at another
	@$(BIN)/python -m bench.across $(ARGS)

# Without looking at what they demand of each other: two of them want different clients of Redis.
$(PEERS_INSTALLED): requirements/peers.txt
	@echo "install: the libraries to be measured beside into $(PEERS)"
	@$(PEERS)/bin/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip --disable-pip-version-check install -qq --no-deps -r requirements/peers.txt
	@touch $@

.PHONY: bench-churn
bench-churn: install ## Measure a claim on PostgreSQL while a million jobs come and go
	@$(BIN)/python -m bench.churn $(ARGS)

.PHONY: bench-stops
bench-stops: install ## Measure how long the file store stops the broker at a million jobs, and its restart
	@$(BIN)/python -m bench.stops $(ARGS)

.PHONY: bench-restart
bench-restart: install ## Measure how long the stores in files take to open with a million jobs
	@$(BIN)/python -m bench.restart $(ARGS)

.PHONY: bench-connected
bench-connected: install ## Measure what a broker takes while idle, and with ten thousand workers waiting
	@$(BIN)/python -m bench.connected $(ARGS)

.PHONY: bench-capacity
bench-capacity: install ## Measure what a job takes: memory, room in the store, the processor
	@$(BIN)/python -m bench.capacity $(ARGS)

.PHONY: bench-refusals
bench-refusals: install ## Measure what it costs to refuse a Push, beside an empty server that refuses all
	@$(BIN)/python -m bench.refusals $(ARGS)

.PHONY: bench-workers
bench-workers: install ## Measure how soon a job runs after a child of a process pool has died
	@$(BIN)/python -m bench.workers $(ARGS)

.PHONY: contract
contract: install ## Run the contract suite over every store, with many random examples, and print a table
	@$(BIN)/python scripts/contract_table.py $(ARGS)

.PHONY: simulate
simulate: install ## Play schedules of a simulated broker, disk and network (ARGS="--store file --seed 1 --seconds 600")
	@$(BIN)/python -m tests.simulation $(ARGS)

.PHONY: fuzz
fuzz: install ## Fuzz every call, the journal and what reads answers (MESSAGES=10000000 SEED=7)
	@$(BIN)/python -m tests.fuzz --messages $${MESSAGES:-1000000} $${SEED:+--seed $$SEED} $(ARGS)

.PHONY: fuzz-coverage
fuzz-coverage: install $(FUZZ_INSTALLED) ## Fuzz one target, guided by coverage (TARGET=calls RUNS=100000)
	@PYTHONPATH=$(FUZZ) $(BIN)/python -m tests.fuzz.guided --target "$${TARGET:-calls}" --runs $${RUNS:-100000} $(ARGS)

# Beside .venv and not in it: there is no wheel of it for every machine that Towline is developed on.
$(FUZZ_INSTALLED): requirements/fuzz.txt
	@echo "install: atheris into $(FUZZ)"
	@$(PIP) install -qq --no-deps --upgrade --target $(FUZZ) -r requirements/fuzz.txt
	@touch $@

.PHONY: figures-docs
figures-docs: install ## Rewrite the metrics and the scrape in docs/observability.md
	@$(BIN)/python -m tests.observability.page

.PHONY: planted
planted: install ## Plant bugs in a copy of the code, one after the other, and see that the fault suite finds each
	@$(BIN)/python -m tests.planted $(ARGS)

.PHONY: faults
faults: install ## Run a representative hour of the fault suite (ARGS="kills simulation", ARGS=--full, ARGS=--help)
	@$(BIN)/python -m tests.faults $(ARGS)

.PHONY: clean
clean: ## Remove everything that make created: virtual environments, caches, build output
	@rm -rf $(VENV) $(CODEGEN) $(FUZZ) $(PEERS) .bench-servers $(NODE_TESTS)/node_modules dist build
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find $(PYTHON_TREES) -name __pycache__ -type d -prune -exec rm -rf {} +
