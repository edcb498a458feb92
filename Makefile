# The targets of the README. Everything lives in .venv and under TLM_HOME (default: this folder).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
TLM_HOME ?= $(CURDIR)
export TLM_HOME
PREFECT_HOME ?= $(TLM_HOME)/data/prefect
export PREFECT_HOME
# The servers: ports that `make server` takes, and where `make deploy` and `make worker` look for them.
TLM_PREFECT_PORT ?= 4200
TLM_MLFLOW_PORT ?= 5000
export TLM_PREFECT_PORT TLM_MLFLOW_PORT
PREFECT_URL := $(or $(PREFECT_API_URL),http://127.0.0.1:$(TLM_PREFECT_PORT)/api)
MLFLOW_URL  := $(or $(MLFLOW_TRACKING_URI),http://127.0.0.1:$(TLM_MLFLOW_PORT))

.PHONY: help setup demo test test-fast bench docs lint format ui server worker deploy clean

help:
	@echo "make setup     create $(VENV) with the pinned versions"
	@echo "make demo      the demo study: embedded corpus, no download, results table and report"
	@echo "make test      every test (with TLM_DATA_ROOT set: also those on real data)"
	@echo "make test-fast every test but the slow ones"
	@echo "make bench     speed and memory against stock transformers (needs TLM_DATA_ROOT; BENCH=\"--case …\")"
	@echo "make docs      the documents as pages, with the library's reference: site/index.html"
	@echo "make lint      ruff and mypy"
	@echo "make ui        Prefect server and MLflow server, both on loopback"
	@echo "make server    the same (what a worker needs)"
	@echo "make deploy    the work pool, and a deployment for each named study and for your own"
	@echo "make worker    a Prefect worker that takes runs from the pool"
	@echo "make clean     remove the environment and everything that was made"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	@echo "setting up $(VENV): pip fetches the packages of constraints.txt, which takes minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

setup: $(STAMP)

demo: setup
	$(BIN)/tlm run demo

test: test-fast
	$(BIN)/python -m pytest -m slow --dist loadfile

test-fast: setup
	$(BIN)/python -m pytest -m "not slow"

bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python -m benchmarks.throughput $(BENCH)

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "python -m http.server --bind 127.0.0.1 --directory site    # http://127.0.0.1:8000"

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

server ui: setup
	$(BIN)/python -m tasks.servers

deploy: setup
	@PREFECT_API_URL=$(PREFECT_URL) $(BIN)/tlm deploy

worker: setup
	PYTHONSAFEPATH=1 PREFECT_API_URL=$(PREFECT_URL) MLFLOW_TRACKING_URI=$(MLFLOW_URL) \
	$(BIN)/prefect worker start --pool tlm --limit 1

clean:
	rm -rf $(VENV) site data/artifacts data/prefect data/catalogue.duckdb mlflow/mlflow.db mlflow/artifacts mlflow/processes
	find . -name __pycache__ -prune -exec rm -rf {} +
