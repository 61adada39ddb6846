# Two commands need nothing but Python 3.11+, gcc and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test lint clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,serve,ann,redis,report,search,dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/xdm demo --out demo --overwrite

test: setup lint
	$(BIN)/python -m pytest -n logical --maxprocesses 8

lint: setup
	$(BIN)/ruff check src tests benchmarks experiments
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
