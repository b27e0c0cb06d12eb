# make report   trains parts 1 to 3 on the quick preset and writes report/index.html
# make test     runs the whole test suite
# Both make the virtual environment .venv first, if it is missing or older than pyproject.toml or constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PRESET ?= quick
RUNS := runs/$(PRESET)
RECIPES := warmup 2d-mlp 2d-made pixelcnn pixelcnn-made
ENCODINGS := scalar embedding
RESULTS := $(RECIPES:%=$(RUNS)/%/result.json) $(ENCODINGS:%=$(RUNS)/2d-mlp-%/result.json) $(RUNS)/codec/result.json
RECORDED := $(dir $(wildcard recorded/*/result.json))

.DEFAULT_GOAL := help
.PHONY: help report report-full test lint bench clean
.SECONDARY:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -3
	@echo "make report-full trains everything on the full preset; make lint, make bench, make clean do what they say"

$(STAMP): pyproject.toml setup.py constraints.txt src/chainrule/native/walk.c src/chainrule/native/threads.h
	@echo "==> making the virtual environment .venv and installing chainrule into it (a few minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "chainrule needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@

report: $(STAMP) $(RESULTS)
	$(BIN)/chainrule report $(RECIPES:%=$(RUNS)/%) $(ENCODINGS:%=$(RUNS)/2d-mlp-%) $(RUNS)/codec --out report $(if $(RECORDED),--recorded $(RECORDED:%/=%))

report-full:
	$(MAKE) report PRESET=full

# A run that was interrupted left a checkpoint, and is gone on with.
$(RUNS)/%/result.json: | $(STAMP)
	@echo "==> training $* ($(PRESET) preset) into $(RUNS)/$*"
	$(BIN)/chainrule train $* --preset $(PRESET) --out $(RUNS)/$* $(if $(wildcard $(RUNS)/$*/checkpoint.pt),--resume)

$(RUNS)/2d-mlp-%/result.json: | $(STAMP)
	@echo "==> training 2d-mlp with the $* encoding into $(RUNS)/2d-mlp-$*"
	$(BIN)/chainrule train 2d-mlp --preset $(PRESET) --model.encoding $* --out $(RUNS)/2d-mlp-$* $(if $(wildcard $(RUNS)/2d-mlp-$*/checkpoint.pt),--resume)

$(RUNS)/codec/result.json: $(RUNS)/pixelcnn-made/result.json | $(STAMP)
	@echo "==> compressing test images with $(RUNS)/pixelcnn-made, and with the usual codecs"
	$(BIN)/chainrule bench codec --model $(RUNS)/pixelcnn-made --out $(RUNS)/codec

test: $(STAMP)
	@echo "==> running the test suite"
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/chainrule bench sampling
	$(BIN)/chainrule bench codec

clean:
	rm -rf .venv src/chainrule/native/_walk.* report runs build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
