# The verbs of this project.  Each sets up what it needs; "make" alone lists them.

MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
READY := .venv/.ready
SYSTEM := deploy/setup/system
DEMO := demo

.PHONY: help setup demo flask demo-down test test-compose unit check fix proto constraints docs bench sim-raft nemesis clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## install what is needed: Debian packages (as root) and .venv
	@$(SYSTEM) python node

$(READY): constraints.txt pyproject.toml deploy/setup/python
	@$(SYSTEM) python
	@deploy/setup/python

demo: ## a three-node swarm on this machine runs the lab and is left running (root)
	@$(SYSTEM) --root demo python node demo
	@$(MAKE) --silent $(READY)
	@deploy/demo/lab.sh $(DEMO)

flask: ## docs/examples-flask.md, command by command, on the demo's first node (root; "make demo" first)
	@$(SYSTEM) --root flask python node flask
	@SWARMCTL_CONTEXT=$(DEMO)-node1 deploy/lab/flask.sh

demo-down: ## remove the demo's swarm (root)
	@$(SYSTEM) --root demo-down python
	@$(MAKE) --silent $(READY)
	@$(BIN)/swarmctl local down --name $(DEMO)

# STATUS=FILE: write pytest's exit code there and succeed, so that pytest has the last word.
test: ## all tests (root); ARGS are given to pytest
	@$(SYSTEM) --root test python node test nemesis
	@$(MAKE) --silent $(READY)
	@python3 deploy/lab/build_images.py .lab/images >/dev/null
	@status=0; $(BIN)/python -m pytest -p tests.beside $(ARGS) || status=$$?; \
	if [[ -n "$(STATUS)" ]]; then echo $$status >"$(STATUS)"; else exit $$status; fi

test-compose: ## docker-compose.test.yml in a container engine that is started for it, and ended (root)
	@$(SYSTEM) --root test-compose python compose
	@$(MAKE) --silent $(READY)
	@python3 deploy/lab/build_images.py .lab/images >/dev/null
	@deploy/compose/run.sh

unit: $(READY) ## the tests that need no root
	@$(BIN)/python -m pytest tests/unit tests/property tests/scripts tests/architecture $(ARGS)

check: $(READY) ## format, lint, strict types, layers, generated code, scripts: changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	deploy/setup/proto --check
	$(BIN)/python deploy/setup/cli_reference.py --check
	$(BIN)/python deploy/setup/api_reference.py --check
	$(BIN)/python deploy/setup/metrics_reference.py --check
	deploy/setup/syntax

fix: $(READY) ## format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(READY) ## generate swarmd/rpc/v1 from proto/
	deploy/setup/proto

docs: $(READY) ## generate the flags in docs/cli.md, the audiences in docs/api.md and docs/metrics.md's table
	$(BIN)/python deploy/setup/cli_reference.py
	$(BIN)/python deploy/setup/api_reference.py
	$(BIN)/python deploy/setup/metrics_reference.py

constraints: ## raise the versions in constraints.txt (needs uv)
	deploy/setup/constraints

bench: ## measure, as ratios to a peer in the same run (root)
	@$(SYSTEM) --root bench python node demo test bench
	@$(MAKE) --silent $(READY)
	@python3 deploy/lab/build_images.py .lab/images >/dev/null
	@$(BIN)/python -m benchmarks.bench_runtime
	@$(BIN)/python -m benchmarks.bench_operating
	@$(BIN)/python -m benchmarks.bench_exec
	@$(BIN)/python -m benchmarks.bench_seal
	@$(BIN)/python -m benchmarks.bench_build
	@$(BIN)/python -m benchmarks.bench_distribution
	@$(BIN)/python -m benchmarks.bench_store
	@$(BIN)/python -m benchmarks.bench_dns
	@$(BIN)/python -m benchmarks.bench_router
	@$(BIN)/python -m benchmarks.bench_images
	@$(BIN)/python -m benchmarks.bench_pull
	@$(BIN)/python -m benchmarks.bench_registry
	@$(BIN)/python -m benchmarks.bench_network
	@$(BIN)/python -m benchmarks.bench_elements
	@unshare -n $(BIN)/python -m benchmarks.network_change 5000 20
	@$(BIN)/python -m benchmarks.bench_secure
	@$(BIN)/python -m benchmarks.bench_swarm $(ARGS)
	@$(BIN)/python -m benchmarks.bench_updates
	@$(BIN)/python -m benchmarks.bench_news

SEEDS ?= 20
sim-raft: $(READY) ## the replication layer through SEEDS random disasters each; more in ARGS (--help lists it)
	@$(BIN)/python -m tests.simulation.raft --seeds $(SEEDS) $(ARGS)

MINUTES ?= 10
MANAGERS ?= 3
SEED ?= 1
nemesis: ## real daemons under real faults for MINUTES (root); SEED draws them, MANAGERS=3 or 5, more in ARGS
	@$(SYSTEM) --root nemesis python node nemesis
	@$(MAKE) --silent $(READY)
	@$(BIN)/python -m tests.nemesis --minutes $(MINUTES) --managers $(MANAGERS) --seed $(SEED) $(ARGS)

clean: ## remove what make made, but no swarm
	rm -rf .venv .lab build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
