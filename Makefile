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

# The bonus: other models at the same budget. NAME is a recipe, NAME-1 and NAME-2 are further seeds of it.
BONUS ?= runs/bonus
SHOWN_BONUS ?= $(wildcard recorded/bonus)
SEEDED := $(foreach model,pixelcnn-made gated-made class-conditional iqn,$(model) $(model)-1 $(model)-2)
# Half the steps of the quick preset, since there are many runs.
BONUS_LENGTH := 1600
BONUS_STEPS := $(SEEDED) pixelcnn gated logistic grayscale
# NAME:STEPS, as many as took as long as the 1600 of pixelcnn-made, which stands in steps/, when the recorded runs were
# made: half of what .venv/bin/chainrule bench steps prints, which counts from the preset's 3200. Other processors and
# versions have other numbers.
TIME_STEPS := gated-made:1300 pixelcnn:1800 gated:1350 class-conditional:1125 grayscale:850 iqn:1350 logistic:1375
BONUS_PHOTOS := pixelcnn-made logistic
BONUS_DIGITS := $(foreach model,pixelcnn-made gated-made logistic,$(model) $(model)-1 $(model)-2)
BONUS_QUALITY := $(foreach model,iqn pixelcnn-made,$(foreach seed,0 1 2,$(model)-$(seed)))
BONUS_FULL := $(filter-out %-1 %-2,$(BONUS_STEPS))

bonus_time := $(foreach pair,$(TIME_STEPS),$(firstword $(subst :, ,$(pair)))) gated-made-1 gated-made-2
time_steps = $(lastword $(subst :, ,$(filter $1:%,$(TIME_STEPS))))
recipe = $(patsubst %-1,%,$(patsubst %-2,%,$1))
unseeded = $(patsubst %-0,%,$1)
seed = $(or $(filter 1 2,$(lastword $(subst -, ,$1))),0)
resume = $(if $(wildcard $1/checkpoint.pt),--resume)
BONUS_FILES := $(BONUS_STEPS:%=$(BONUS)/steps/%/result.json) $(bonus_time:%=$(BONUS)/time/%/result.json) \
  $(BONUS_PHOTOS:%=$(BONUS)/photos/%/result.json) $(BONUS_DIGITS:%=$(BONUS)/digits/%/result.json) \
  $(BONUS_QUALITY:%=$(BONUS)/quality/%.json) $(BONUS)/steps.json

.DEFAULT_GOAL := help
.PHONY: help report report-full bonus bonus-full test lint bench clean
.SECONDARY:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -3
	@echo "make report-full trains everything again, parts 1 to 3 on the full preset and the bonus; make bonus only the latter"
	@echo "make bonus-full trains the bonus models on the full preset too; make lint, make bench, make clean do what they say"

$(STAMP): pyproject.toml setup.py constraints.txt $(wildcard src/chainrule/compiled/*.[ch] src/chainrule/compiled/*/*.[ch])
	@echo "==> making the virtual environment .venv and installing chainrule into it (a few minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "chainrule needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@touch $@

report: $(STAMP) $(RESULTS)
	$(BIN)/chainrule report $(RECIPES:%=$(RUNS)/%) $(ENCODINGS:%=$(RUNS)/2d-mlp-%) $(RUNS)/codec --out report $(if $(RECORDED),--recorded $(RECORDED:%/=%)) $(if $(SHOWN_BONUS),--bonus $(SHOWN_BONUS))

report-full: bonus
	$(MAKE) report PRESET=full SHOWN_BONUS=$(BONUS)

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

bonus: $(STAMP) $(BONUS_FILES)

bonus-full: $(STAMP) $(BONUS_FULL:%=$(BONUS)/full/%/result.json)

$(BONUS)/steps/%/result.json: | $(STAMP)
	@echo "==> training $* into $(BONUS)/steps/$*"
	$(BIN)/chainrule train $(call recipe,$*) --train.steps $(BONUS_LENGTH) --train.seed $(call seed,$*) --out $(BONUS)/steps/$* $(call resume,$(BONUS)/steps/$*)

$(BONUS)/time/%/result.json: | $(STAMP)
	@echo "==> training $* for as long as pixelcnn-made into $(BONUS)/time/$*"
	$(BIN)/chainrule train $(call recipe,$*) --train.steps $(call time_steps,$(call recipe,$*)) --train.seed $(call seed,$*) --out $(BONUS)/time/$* $(call resume,$(BONUS)/time/$*)

$(BONUS)/photos/%/result.json: | $(STAMP)
	@echo "==> training $* on 8-bit colour images into $(BONUS)/photos/$*"
	$(BIN)/chainrule train $* --data photos --train.steps $(BONUS_LENGTH) --out $(BONUS)/photos/$* $(call resume,$(BONUS)/photos/$*)

$(BONUS)/digits/%/result.json: | $(STAMP)
	@echo "==> training $* on small gray digits into $(BONUS)/digits/$*"
	$(BIN)/chainrule train $(call recipe,$*) --data digits --train.steps $(BONUS_LENGTH) --train.seed $(call seed,$*) --out $(BONUS)/digits/$* $(call resume,$(BONUS)/digits/$*)

$(BONUS)/full/%/result.json: | $(STAMP)
	@echo "==> training $* (full preset) into $(BONUS)/full/$*"
	$(BIN)/chainrule train $* --preset full --out $(BONUS)/full/$* $(call resume,$(BONUS)/full/$*)

# Written under another name first, so that a measurement that was interrupted leaves no file.
.SECONDEXPANSION:
$(BONUS)/quality/%.json: $(BONUS)/steps/$$(call unseeded,$$*)/result.json | $(STAMP)
	@mkdir -p $(@D)
	$(BIN)/chainrule quality $(<D) --json > $@.partial
	@mv $@.partial $@

$(BONUS)/steps.json: | $(STAMP)
	@mkdir -p $(@D)
	$(BIN)/chainrule bench steps --json > $@.partial
	@mv $@.partial $@

test: $(STAMP)
	@echo "==> running the test suite"
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/chainrule bench sampling
	$(BIN)/chainrule bench codec

clean:
	rm -rf .venv src/chainrule/compiled/_compiled.* report runs build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
