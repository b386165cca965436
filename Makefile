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

TEST_WORKERS ?= auto

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
verify: format-check lint types imports proto-lint proto-breaking proto-check sdk-only ## Run every check that is not a test

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

.PHONY: demo
demo: install ## Watch jobs run: a broker, two workers, one of them killed half-way
	@$(BIN)/python examples/stdlib_census/demo.py

.PHONY: run
run: install ## Run a broker in this folder until Ctrl-C
	@$(BIN)/towline-broker serve

.PHONY: bench
bench: install ## Measure throughput beside an empty gRPC echo and the bare store (ARGS=--all: every store)
	@$(BIN)/python -m bench.throughput $(ARGS)

.PHONY: bench-depth
bench-depth: install ## Measure Reserve and Ack with a thousand and with a million jobs waiting
	@$(BIN)/python -m bench.depth $(ARGS)

.PHONY: bench-across
bench-across: install ## Measure the way from a Push at one broker to a worker at another
	@$(BIN)/python -m bench.across $(ARGS)

.PHONY: bench-against
bench-against: install $(PEERS_INSTALLED) ## Measure the same beside Celery, Dramatiq, RQ, arq and taskiq
	@$(BIN)/python -m bench.against $(ARGS)

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

.PHONY: bench-workers
bench-workers: install ## Measure what a worker does with jobs that do nothing, in each pool and in two processes
	@$(BIN)/python -m bench.workers $(ARGS)

.PHONY: contract
contract: install ## Run the contract suite over every store, with many random examples, and print a table
	@$(BIN)/python scripts/contract_table.py $(ARGS)

.PHONY: simulate
simulate: install ## Play schedules of a simulated broker, disk and network (ARGS="--store file --seed 1 --seconds 600")
	@$(BIN)/python -m tests.simulation $(ARGS)

.PHONY: kills
kills: install ## Kill a broker a hundred times under load and look for lost jobs (about 3 minutes)
	@TOWLINE_KILLS=$${TOWLINE_KILLS:-100} $(BIN)/python -m pytest -q tests/faults/test_broker_kills.py

.PHONY: crash-points
crash-points: install ## End or fail a short life of each store in files at every call that changes a file (40 minutes)
	@TOWLINE_CRASH_POINTS=$${TOWLINE_CRASH_POINTS:-0} $(BIN)/python -m pytest -q -n 2 tests/faults/test_crash_points.py

.PHONY: damage
damage: install ## Damage the stores in files in every place: bits flipped, lengths cut (20 minutes)
	@TOWLINE_DAMAGE=$${TOWLINE_DAMAGE:-0} TOWLINE_DAMAGED_BITS=$${TOWLINE_DAMAGED_BITS:-20000} $(BIN)/python -m pytest -q -n 2 tests/faults/test_damaged_files.py

.PHONY: power-cuts
power-cuts: install ## Cut the power of each store in files 250 times under load (as root; 5 minutes)
	@TOWLINE_POWER_CUTS=$${TOWLINE_POWER_CUTS:-250} $(BIN)/python -m pytest -q -n 2 tests/faults/test_power_loss.py

.PHONY: shared-kills
shared-kills: install ## Kill brokers, workers and masters over shared stores, with 100,000 jobs each
	@TOWLINE_SHARED_JOBS=$${TOWLINE_SHARED_JOBS:-100000} $(BIN)/python -m pytest -q tests/faults/test_shared_stores.py

.PHONY: fuzz
fuzz: install ## Fuzz every call, the journal and what reads answers (MESSAGES=10000000 SEED=7)
	@$(BIN)/python -m tests.fuzz --messages $${MESSAGES:-1000000} $${SEED:+--seed $$SEED} $(ARGS)

.PHONY: bad-peers
bad-peers: install ## Let peers that break the rules of HTTP/2 and gRPC go on for long, and thousands wait
	@TOWLINE_ATTACK_SECONDS=$${TOWLINE_ATTACK_SECONDS:-10} TOWLINE_IDLE=$${TOWLINE_IDLE:-10000} \
	  TOWLINE_PARKED=$${TOWLINE_PARKED:-5000} \
	  $(BIN)/python -m pytest -q tests/faults/test_bad_peers.py tests/faults/test_many_connections.py

.PHONY: overload
overload: install ## Push at ten times the rate that stores can take: goodput, memory, latency (about 5 minutes)
	@TOWLINE_OVERLOAD_SECONDS=$${TOWLINE_OVERLOAD_SECONDS:-20} TOWLINE_OVERLOAD_BATCH=$${TOWLINE_OVERLOAD_BATCH:-1000} \
	  TOWLINE_OVERLOAD_LEAST=$${TOWLINE_OVERLOAD_LEAST:-90} \
	  TOWLINE_OVERLOAD_STORES="$${TOWLINE_OVERLOAD_STORES:-file sqlite postgresql mariadb redis valkey}" \
	  $(BIN)/python -m pytest -q tests/faults/test_overload.py

.PHONY: fuzz-coverage
fuzz-coverage: install $(FUZZ_INSTALLED) ## Fuzz one target, guided by coverage (TARGET=calls RUNS=100000)
	@PYTHONPATH=$(FUZZ) $(BIN)/python -m tests.fuzz.guided --target "$${TARGET:-calls}" --runs $${RUNS:-100000} $(ARGS)

# Beside .venv and not in it: there is no wheel of it for every machine that Towline is developed on.
$(FUZZ_INSTALLED): requirements/fuzz.txt
	@echo "install: atheris into $(FUZZ)"
	@$(PIP) install -qq --no-deps --upgrade --target $(FUZZ) -r requirements/fuzz.txt
	@touch $@

.PHONY: planted
planted: install ## Plant bugs in a copy of the code, one after the other, and see that the fault suite finds each
	@$(BIN)/python -m tests.planted $(ARGS)

.PHONY: sigterms
sigterms: install ## Tell a thousand workers to stop at random moments under load, and look for lost jobs
	@TOWLINE_SIGTERMS=$${TOWLINE_SIGTERMS:-1000} $(BIN)/python -m pytest -q tests/faults/test_worker_sigterms.py

.PHONY: orphans
orphans: install ## Measure over every store how soon a killed worker's jobs are back (about 6 minutes)
	@TOWLINE_ORPHANS=$${TOWLINE_ORPHANS:-200} $(BIN)/python -m pytest -q tests/faults/test_orphans.py $(ARGS)

.PHONY: store-faults
store-faults: install ## Let everything happen to servers of stores, to brokers and to clocks, many times (about an hour)
	@TOWLINE_STORE_FAULTS=$${TOWLINE_STORE_FAULTS:-20} TOWLINE_FAILOVERS=$${TOWLINE_FAILOVERS:-5} \
	  TOWLINE_CLOCK_JUMPS=$${TOWLINE_CLOCK_JUMPS:-60} TOWLINE_ROLLS=$${TOWLINE_ROLLS:-10} \
	  TOWLINE_IDLE_SECONDS=$${TOWLINE_IDLE_SECONDS:-600} \
	  $(BIN)/python -m pytest -q tests/faults/test_database_faults.py tests/faults/test_redis_faults.py \
	  tests/faults/test_clock_jumps.py tests/faults/test_rolling_restarts.py $(ARGS)

.PHONY: lost-replies
lost-replies: install ## Repeat 100,000 pushes whose reply was lost over each store, and look for duplicates (about an hour)
	@TOWLINE_LOST_REPLIES=$${TOWLINE_LOST_REPLIES:-100000} $(BIN)/python -m pytest -q tests/faults/test_lost_replies.py $(ARGS)

.PHONY: network-faults
network-faults: install ## Bad networks, parted networks and stopped processes, over every store (about 30 minutes)
	@TOWLINE_NETWORK_ROUNDS=$${TOWLINE_NETWORK_ROUNDS:-3} TOWLINE_PARTITIONS=$${TOWLINE_PARTITIONS:-3} \
	  TOWLINE_STOPS=$${TOWLINE_STOPS:-10} $(BIN)/python -m pytest -q tests/faults/test_cut_replies.py \
	  tests/faults/test_sdk_on_bad_networks.py tests/faults/test_partitions.py tests/faults/test_stopped_processes.py $(ARGS)

.PHONY: faults
faults: install ## Run a representative hour of the fault suite (ARGS="kills simulation", ARGS=--full, ARGS=--help)
	@$(BIN)/python -m tests.faults $(ARGS)

.PHONY: clean
clean: ## Remove everything that make created: virtual environments, caches, build output
	@rm -rf $(VENV) $(CODEGEN) $(FUZZ) $(NODE_TESTS)/node_modules client/dist broker/dist
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find $(PYTHON_TREES) -name __pycache__ -type d -prune -exec rm -rf {} +
