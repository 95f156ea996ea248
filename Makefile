# The two commands: `make demo` and `make test`. Both set up all they need.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A CPU build of torch for Linux: TORCH_INDEX=<url of an index that holds one> make setup
PIP_TORCH := $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo test unit contract integration e2e evals boards bench alarms nightly lint types format clean

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## build .venv with all that the demo and the tests need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "aiops needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "python3 cannot build a virtual environment: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --progress-bar on -c constraints.txt $(PIP_TORCH) torch
	$(BIN)/pip install --quiet --disable-pip-version-check --progress-bar on -c constraints.txt -e '.[slack,llm,llm-anthropic,llm-google,llm-bedrock,llm-ollama,postgres,otlp-grpc,encryption,apprise,calendar,onnx,ray,baselines,dev]'
	@touch $(STAMP)

demo: setup ## start the service with a simulated shop, inject a fault, show the answer (ONCE=1 SEED=7 FAULT=none)
	@$(BIN)/aiops demo $(if $(ONCE),--once) $(if $(SEED),--seed $(SEED)) $(if $(FAULT),--fault $(FAULT))

test: setup ## all tests at CI sizes
	$(BIN)/pytest -m "not nightly and not gpu" tests

unit contract integration e2e evals: setup ## one kind of test
	$(BIN)/pytest -m "not nightly and not gpu" tests/$@

nightly: setup ## the long sizes
	$(BIN)/pytest -m nightly tests

boards: setup ## the scoring boards, where ../shared lies beside the checkout
	$(BIN)/python -m tests.benchmarks.run_boards

bench: setup ## speed and memory, as ratios
	$(BIN)/python -m tests.benchmarks.speed
	$(BIN)/python -m tests.benchmarks.serving

alarms: setup ## false alarms on quiet series, and what is found
	$(BIN)/python -m tests.benchmarks.false_alarms

lint: setup ## ruff and the layer contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup ## mypy --strict
	$(BIN)/mypy

format: setup ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
