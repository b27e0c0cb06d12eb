# make report   trains parts 1 to 3 on the quick preset and writes report/index.html
# make test     runs the whole test suite
# make docs     builds the documentation site and writes site/index.html
# They make the virtual environment .venv first, if it is missing or older than pyproject.toml or constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PRESET ?= quick
RECORDED := $(patsubst %/,%,$(dir $(wildcard recorded/*/result.json)))
BONUS ?= runs/bonus
SHOWN_BONUS ?= $(wildcard recorded/bonus)

.DEFAULT_GOAL := help
.PHONY: help report report-full bonus bonus-full test docs lint bench clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile
	@echo "make report-full trains everything again, parts 1 to 3 on the full preset and the bonus; make bonus only the latter"
	@echo "make bonus-full trains the bonus models on the full preset too; make lint, make bench, make clean do what they say"

$(STAMP): pyproject.toml setup.py constraints.txt $(wildcard src/chainrule/compiled/*.[ch] src/chainrule/compiled/*/*.[ch])
	@echo "==> making the virtual environment .venv and installing chainrule into it (a few minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "chainrule needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@

report: $(STAMP)
	folders=$$($(BIN)/chainrule study parts --preset $(PRESET) --out runs/$(PRESET)) && \
	$(BIN)/chainrule demo pixelcnn-made -o report/demo.html && \
	$(BIN)/chainrule report $$folders --out report $(if $(RECORDED),--recorded $(RECORDED)) $(if $(SHOWN_BONUS),--bonus $(SHOWN_BONUS))

report-full: bonus
	$(MAKE) report PRESET=full SHOWN_BONUS=$(BONUS)

bonus: $(STAMP)
	$(BIN)/chainrule study bonus --out $(BONUS)

bonus-full: $(STAMP)
	$(BIN)/chainrule study bonus --preset full --out $(BONUS)

test: $(STAMP)
	@echo "==> running the test suite"
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

DOCS := .venv/.docs
NOTEBOOKS := $(patsubst %.py,%.md,$(wildcard docs/notebooks/*.py))

$(DOCS): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs/notebooks/%.md: docs/notebooks/%.py $(DOCS)
	@echo "==> running the notebook $<"
	$(BIN)/python -m jupytext --quiet --to ipynb --output $(@:.md=.ipynb) $<
	OMP_WAIT_POLICY=passive PYTHONWARNINGS=ignore:IProgress $(BIN)/python -m nbconvert --log-level WARN --execute \
		--KernelManager.transport=ipc --KernelManager.ip=$$(mktemp -d)/kernel --to markdown $(@:.md=.ipynb)
	@rm $(@:.md=.ipynb)

docs: $(DOCS) $(NOTEBOOKS)
	$(BIN)/python tools/drawings.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "==> site/index.html"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/chainrule bench sampling
	$(BIN)/chainrule bench codec

clean:
	rm -rf .venv src/chainrule/compiled/_compiled.* report runs site $(NOTEBOOKS) docs/notebooks/*_files build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
