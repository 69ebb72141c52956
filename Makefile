# Noria: build, test, measure. `make help` lists the targets.
# Every target prepares what it needs; nothing outside this folder is changed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

PYTHON ?= python3
CARGO ?= cargo
NORIA_FIXTURES ?= ../shared/fixtures
PYTEST_WORKERS ?= 2
# What every benchmark program gets, for example BENCH_ARGUMENTS=--quick.
BENCH_ARGUMENTS ?=
export NORIA_FIXTURES

VENV := .venv
BIN := $(VENV)/bin
STAMPS := build/stamps
PEERS := build/npm

RUST_SOURCES := Cargo.toml Cargo.lock $(shell find crates -name '*.rs' -o -name Cargo.toml)
CONTRACT_SOURCES := $(wildcard contracts/*.vy) contracts/build.py

# What maturin tells pyo3 about the interpreter. Clippy must hear the same, or each would recompile the other's work.
PYO3_ENV = PYO3_PYTHON=$(abspath $(BIN)/python) PYO3_BUILD_EXTENSION_MODULE=1 \
	PYO3_ENVIRONMENT_SIGNATURE=$(shell $(BIN)/python -c 'import sys; print("cpython-%d.%d-64bit" % sys.version_info[:2])' 2>/dev/null) \
	PYO3_CONFIG_FILE=$(abspath $(firstword $(shell ls -t target/maturin/pyo3-config-*-abi3.txt 2>/dev/null)))

say = @printf '\033[1m==> %s\033[0m\n' "$(1)"
need = command -v $(1) >/dev/null || { echo "$(1) is missing: $(2)" >&2; exit 1; }

.PHONY: help build demo test lint format bench conformance contracts lock clean peers runtime soak

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 22

build: $(STAMPS)/extension runtime ## Build everything; leaves .venv/bin/noria

demo: build ## A job on four miners: a picture, its price, its proof, and the block that it earned
	@$(BIN)/python -m examples.demo.demo --dir build/demo-network --output build/noria.png

test: build peers ## All Rust and Python tests
	$(call say,Rust tests)
	@$(CARGO) test --release --workspace --locked
	$(call say,Contract artefacts match their sources)
	@$(BIN)/python contracts/build.py --check
	$(call say,Python tests)
	@$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS)

lint: $(STAMPS)/extension ## Formatting, types, layers, clippy
	@$(CARGO) clippy --version >/dev/null 2>&1 && $(CARGO) fmt --version >/dev/null 2>&1 \
		|| { echo "clippy or rustfmt is missing: rustup component add clippy rustfmt" >&2; exit 1; }
	$(call say,ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	$(call say,mypy --strict)
	@$(BIN)/mypy
	$(call say,import-linter)
	@$(BIN)/lint-imports --no-cache --no-logo
	$(call say,rustfmt and clippy)
	@$(CARGO) fmt --all --check
	@$(PYO3_ENV) $(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings

format: $(STAMPS)/python ## Format Python and Rust sources in place
	@$(BIN)/ruff check --fix-only -q .
	@$(BIN)/ruff format -q .
	@$(CARGO) fmt --all

bench: build peers $(STAMPS)/bench ## Run the benchmark programs; each prints a table with the peer in the same run
	@for file in $$(grep -l '^if __name__ ==' benchmarks/*.py); do \
		program=benchmarks.$$(basename "$$file" .py); printf '\033[1m==> %s\033[0m\n' "$$program"; \
		$(BIN)/python -m "$$program" $(BENCH_ARGUMENTS); done

conformance: build ## Public Ethereum suites in full; the sandbox on ten times as many random programs, and on V8
	@test -d "$(NORIA_FIXTURES)/ethereum-tests" || { echo "no test data: put a checkout of ethereum/tests at" \
		"$(NORIA_FIXTURES)/ethereum-tests, or name another folder in NORIA_FIXTURES" >&2; exit 1; }
	$(call say,Sandbox: ten times as many random modules$(comma) V8$(comma) 100 processes)
	@NORIA_CASES=10 $(CARGO) test --release --locked -p noria-sandbox -p noria-python
	$(call say,State tests)
	@mkdir -p build/conformance
	@status=0; $(BIN)/noria evm statetest "$(NORIA_FIXTURES)/ethereum-tests/GeneralStateTests" \
		> build/conformance/statetests.jsonl || status=$$?; \
		$(BIN)/python -c 'import json, sys; rows = [json.loads(line) for line in open(sys.argv[1])]; \
			bad = [row for row in rows if not row["pass"]]; \
			[print("FAILED", row["file"], row["name"], row["fork"], row["index"], row["error"]) for row in bad[:20]]; \
			print(f"{len(rows) - len(bad)} of {len(rows)} cases passed"); sys.exit(bool(bad) or not rows)' \
			build/conformance/statetests.jsonl && exit $$status
	$(call say,Tries and RLP)
	@$(BIN)/python -m pytest -q -n $(PYTEST_WORKERS) -m 'conformance or not conformance' \
		tests/conformance tests/primitives/test_rlp_suite.py
	$(call say,The examples in a hundred processes)
	@$(BIN)/python -m pytest -q -m 'conformance or not conformance' tests/examples/test_everywhere.py

soak: build ## Networks of real processes for many minutes: statistics, stopped nodes, partitions, liars, jobs
	@$(BIN)/python -m pytest -q -n0 -s -m soak tests/node/test_soak.py tests/market/test_market_soak.py \
		tests/market/test_liars_soak.py

contracts: $(STAMPS)/contracts ## Compile the system contracts into the package

lock: $(STAMPS)/python ## Renew the lock files after a change of dependencies
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--upgrade pyproject.toml --group tools -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		-c requirements-dev.lock pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		-c requirements-dev.lock --group bench -o requirements-bench.lock
	@$(CARGO) update --quiet

clean: ## Remove everything that was built
	rm -rf $(VENV) build target .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/noria/_core*.so
	find src tests benchmarks contracts examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# ---------------------------------------------------------------- steps

$(STAMPS)/tools:
	@$(call need,$(PYTHON),install Python 3.11 or newer (Debian: apt install python3 python3-venv))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11: install a newer Python, or name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo "Python's venv module is missing: apt install python3-venv" >&2; exit 1; }
	@$(call need,$(CARGO),install Rust 1.94 or newer with rustup)
	@version=$$($(CARGO) --version | cut -d' ' -f2); printf '1.94\n%s\n' "$$version" | sort -V -C \
		|| { echo "Rust $$version is older than 1.94: rustup update stable" >&2; exit 1; }
	@$(call need,cc,install a C compiler (Debian: apt install build-essential))
	@mkdir -p $(@D) && touch $@

$(STAMPS)/python: requirements-dev.lock | $(STAMPS)/tools
	$(call say,Python environment)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on --require-hashes -r $<
	@mkdir -p $(@D) && touch $@

$(STAMPS)/contracts: $(CONTRACT_SOURCES) | $(STAMPS)/python
	$(call say,System contracts)
	@$(BIN)/python contracts/build.py
	@touch $@

$(STAMPS)/extension: $(RUST_SOURCES) pyproject.toml $(STAMPS)/python $(STAMPS)/contracts
	$(call say,Rust engines (the first build takes some minutes))
	@# The lock file has already brought every dependency: pip must look nothing up here.
	@PATH=$(abspath $(BIN)):$$PATH VIRTUAL_ENV=$(abspath $(VENV)) CARGO=$(CARGO) PIP_NO_INDEX=1 PIP_QUIET=1 \
		$(BIN)/maturin develop --release --locked
	@touch $@

# The Python runtime, in the user's cache. What is there already is only checked.
runtime: $(STAMPS)/extension
	@$(BIN)/noria runtime install python

# Schedulers that the market is measured beside.
$(STAMPS)/bench: requirements-bench.lock $(STAMPS)/python
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --progress-bar on --require-hashes \
		-r requirements-bench.lock
	@touch $@

# Other people's programs, for tests and benchmarks that compare with them. Without npm those tests are skipped.
peers:
	@if command -v npm >/dev/null; then $(MAKE) $(STAMPS)/peers; \
		else echo "npm is not installed: comparisons with anvil, cast and ethers are left out"; fi

$(STAMPS)/peers: tests/peers/package.json tests/peers/package-lock.json
	$(call say,Peers from npm: anvil$(comma) cast$(comma) ethers)
	@mkdir -p $(PEERS) $(@D) && cp $^ $(PEERS)/
	@cd $(PEERS) && npm ci --no-fund --no-audit --loglevel=error
	@touch $@

comma := ,
