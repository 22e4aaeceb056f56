# `make demo` and `make test` need Python 3.11 or newer and nothing else; the environment is made on the way.
# PYTHON=... names the interpreter, VENV=... the folder of the environment, ARGS=... goes to pytest.

VENV ?= .venv
BIN = $(VENV)/bin
export VENV

.PHONY: help demo up test lint compose-check fix bench eval soak clean core dev reference map pictures clients clients-table openwebui

help:
	@echo "make demo    show the main job, on a real daemon or on the stand-in"
	@echo "make up      Open WebUI, Orchestra and Ollama in containers (Docker)"
	@echo "make test    linter, type checker and tests (the gate)"
	@echo "make lint    linter and type checker alone"
	@echo "make fix     repair what the linter can repair"
	@echo "make bench   measure the ratios that the project promises"
	@echo "make eval    measure the installed model's answers in 15 minutes: docs/quality.md"
	@echo "make clients what five clients show of a daemon in trouble: the table in the README"
	@echo "make soak    the long variants of the tests"
	@echo "make openwebui  drive the real Open WebUI in a headless browser: OPEN_WEBUI=PATH/open-webui"
	@echo "make clean   remove the environment and the caches"

core:
	@PYTHON="$(PYTHON)" sh tools/bootstrap.sh core

dev:
	@PYTHON="$(PYTHON)" sh tools/bootstrap.sh dev

demo: core
	@$(BIN)/orchestra demo

up:
	@MODE="$(MODE)" sh tools/up.sh $(ARGS)

lint: dev
	@echo "== ruff"
	@$(BIN)/python -m ruff check
	@echo "== mypy --strict"
	@$(BIN)/python -m mypy orchestra tests $(wildcard benchmarks/*.py)

COMPOSE_FILES = docker-compose.yml $(wildcard compose.*.yml)

compose-check: dev
	@echo "== compose files"
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec $(COMPOSE_FILES)

# More workers than cores, since most of them wait most of the time.
WORKERS ?= $(shell $(BIN)/python -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))')

# Half of the tests live on real sockets and processes. On a machine whose cores are taken away for a second one of them may
# miss its moment: it is asked again, three times at most, and is named at the end (RERUN). A test that is named often wants mending.
test: lint compose-check
	@echo "== pytest"
	@$(BIN)/python -m pytest -q -raR -n $(WORKERS) --reruns 3 --reruns-delay 5 $(ARGS)

fix: dev
	@$(BIN)/python -m ruff check --fix

bench: dev
	@$(BIN)/python benchmarks/run.py $(ARGS)

eval: dev
	@$(BIN)/python benchmarks/quality.py $(ARGS)

soak: dev
	@$(BIN)/python -m pytest -q -ra -s -m slow --timeout 1200 --durations 12 $(ARGS)

# every client that is here: the tests' own; `ollama` where it is on the PATH; Open WebUI where OPEN_WEBUI names its command
clients: dev
	@$(BIN)/python tools/clients_table.py measure

clients-table:
	@$(BIN)/python tools/clients_table.py

openwebui: dev
	@OPEN_WEBUI="$(OPEN_WEBUI)" $(BIN)/python tests/openwebui/drive.py $(ARGS)

pictures: core
	@$(BIN)/python tools/pictures.py

clean:
	rm -rf "$(VENV)" build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

reference: dev
	@$(BIN)/python tools/reference.py

map:
	@$(BIN)/python tools/map.py
