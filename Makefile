.DEFAULT_GOAL := help
EXAMPLE ?= assistant
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/pytest
# Where the environment forbids bytecode, every process would compile all it imports anew: seconds of each start.
export PYTHONDONTWRITEBYTECODE :=
MARKED := soak or calibration or fuzz or kubernetes

.PHONY: help setup demo test soak calibrate fuzz lint format wheel clean services bench-comparator bench-proxy

help: ## show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Shadow needs Python 3.11 or newer; $(PYTHON) is older: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "installing Shadow and what it needs into $(VENV) (about a minute, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[embedded,examples,dev]'
	@touch $@

setup: $(VENV)/.installed ## install everything into .venv

demo: setup ## show the main job on this machine (EXAMPLE=assistant or digits)
	@$(BIN)/shadow demo --example $(EXAMPLE)

# Real services for the tests: redis-server and promtool from the system's packages; Apache Kafka's jars through Maven.
services:
	@for pair in redis-server:redis-server promtool:prometheus nginx:nginx wrk:wrk; do \
	  program=$${pair%%:*}; package=$${pair##*:}; \
	  command -v $$program >/dev/null 2>&1 || { \
	    command -v apt-get >/dev/null 2>&1 && test "$$(id -u)" = 0 && \
	    echo "installing $$package" && { test -n "$$updated" || apt-get update -qq; } && updated=1 && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package >/dev/null; } || \
	    echo "$$program is missing, and this user cannot install it: apt-get install $$package" >&2; \
	done
	@command -v mvn >/dev/null 2>&1 || echo "mvn is missing; Apache Kafka's jars come through Maven" >&2
	@command -v java >/dev/null 2>&1 || echo "java is missing; Apache Kafka needs Java 17 or newer" >&2

test: setup services ## every test that is not marked soak, calibration, fuzz or kubernetes
	$(PYTEST) -q -n 2 --dist loadfile --no-loadscope-reorder -m "not ($(MARKED))"

soak: setup services ## long runs under load and faults
	$(PYTEST) -q -s -m soak

calibrate: setup ## long simulations of the gate's error rates (CALIBRATION_SHARE=0.1: a tenth of the runs)
	OPENBLAS_NUM_THREADS=1 $(PYTEST) -q -n 2 --dist worksteal -m calibration tests/calibration

fuzz: setup ## coverage-guided fuzzing
	$(PYTEST) -q -s -m fuzz

bench-comparator: setup services ## the comparator beside Quix Streams, Faust, Bytewax and Kafka Streams
	$(BIN)/python -m benchmarks.bench_comparator $(BENCH)

bench-proxy: setup services ## the proxy beside NGINX and Envoy, mirroring
	$(BIN)/python -m benchmarks.bench_proxy $(BENCH)

lint: setup ## ruff, format and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel: setup ## build the wheel into dist/
	$(BIN)/python -m build --wheel --installer uv

clean: ## remove what the targets made
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
