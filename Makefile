# make help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
comma := ,
# FAISS for the CPU and for GPUs can't live together: an NVIDIA driver decides
FAISS := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
# Milvus Lite brings faiss-cpu
EXTRAS := $(FAISS),dev$(if $(filter cpu,$(FAISS)),$(comma)milvus-lite)
CONSTRAINTS := -c constraints.txt $(if $(filter gpu,$(FAISS)),-c constraints-gpu.txt)
READY := $(VENV)/.ready-$(FAISS)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup train test test-all test-lowest coverage mutants audit docs tutorials bench lint format types wheel clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv and install everything (args: PYTHON=python3.12, FAISS=cpu or gpu)

$(READY): pyproject.toml constraints.txt constraints-gpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "lookalike needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@echo "installing torch and the rest into $(VENV), 6 GB: some minutes ..."
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(CONSTRAINTS) -e ".[$(EXTRAS)]"
	@touch $@

train: $(READY) ## the main job on drawn flowers (args: ARGS="data=flowers ...")
	$(BIN)/lookalike train $(ARGS)

test: $(READY) ## the fast tests, and those on real images where they are
	$(PYTEST) -m "not slow and not browser" $(ARGS)

test-all: $(READY) ## all tests
	$(PYTEST) $(ARGS)

docs: $(READY) ## build/docs/site, the documentation as a site; needs no network
	$(BIN)/python docs/site/building.py

tutorials: $(READY) ## run docs/tutorials/*.ipynb and keep what they show (args: ONLY=name)
	$(BIN)/python docs/site/running.py $(ONLY)

# an old package may call what a newer one has deprecated
OLD := -W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning

test-lowest: .lowest/.ready ## the fast tests with the oldest packages that pyproject.toml allows
	OMP_NUM_THREADS=1 .lowest/bin/pytest -n auto --dist worksteal -m "not slow and not browser" $(OLD) $(ARGS)

.lowest/.ready: pyproject.toml $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .lowest
	$(BIN)/uv pip install --quiet --python .lowest/bin/python --resolution lowest-direct -e ".[cpu,dev,milvus-lite]"
	@touch $@

coverage: $(READY) ## lines and branches that all tests run, an hour or more (args: ARGS="-m 'not slow'")
	$(PYTEST) --cov --cov-report=json:.coverage.json $(ARGS)
	$(BIN)/coverage report
	@$(BIN)/python -c 'import json; total = json.load(open(".coverage.json"))["totals"]; \
		print("%.1f %% of lines, %.1f %% of branches" % (total["percent_statements_covered"], total["percent_branches_covered"]))'

MODULE ?= lookalike.evaluation.metrics
mutants: $(READY) ## change the code, and list changes that no test notices (args: MODULE=lookalike.data.sampling)
	OMP_NUM_THREADS=1 $(BIN)/mutmut run "$(MODULE).*"
	$(BIN)/mutmut results

LOOKALIKE_DATA ?= data
RIVALS := .rivals/bin/python
TOPICS := startup memory large_batches losses input evaluation whole_ranking gallery training training_accuracy embedding frozen \
	input_accuracy processes indexing vectors serving gpu
NEEDS_input := --images $(LOOKALIKE_DATA)/flowers-102 --rivals $(RIVALS)
NEEDS_evaluation := --rivals $(RIVALS)
NEEDS_vectors := --images $(LOOKALIKE_DATA)/flowers-102 --rivals $(RIVALS)
NEEDS_indexing := --images $(LOOKALIKE_DATA)/flowers-102
NEEDS_serving := --images $(LOOKALIKE_DATA)/flowers-102
WITH_WEIGHTS := training training_accuracy embedding frozen input_accuracy processes indexing vectors serving

bench: $(READY) .rivals/.ready ## time us beside others, more than two hours (args: WEIGHTS=file of MobileNetV2, TOPICS="input training")
	$(foreach topic,$(TOPICS),$(BIN)/python speed/$(topic).py $(NEEDS_$(topic)) \
		$(if $(filter $(topic),$(WITH_WEIGHTS)),--weights $(WEIGHTS)) &&) $(BIN)/python speed/report.py

.rivals/.ready: speed/rivals.txt
	$(BIN)/uv venv --quiet --allow-existing .rivals
	$(BIN)/uv pip install --quiet --python $(RIVALS) -r $<
	@touch $@

lint: $(READY) ## ruff, and the layers of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(READY) ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY) ## pyright
	$(BIN)/pyright

audit: $(READY) ## known vulnerabilities of the versions in constraints.txt, from PyPI
	$(BIN)/uv tool run pip-audit --strict --disable-pip --no-deps -r constraints.txt

wheel: $(READY) ## dist/*.whl, conf/ included
	$(BIN)/python -m build --installer uv --wheel

clean: ## remove .venv and what is built; outputs/ stays
	rm -rf $(VENV) .lowest mutants .coverage* dist build .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
