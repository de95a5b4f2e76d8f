# Every target makes what it needs. PYTHON is the interpreter that makes the virtual environment.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
# One worker more than two cores: a fifth of the time a test waits for other processes. Each has one thread of torch.
TEST_WORKERS ?= 3
TESTS  ?= tests
# Of `make kill-matrix`; `make test` kills 40 times by the same seed unless both are set.
KILLS  ?= 200
SEED   ?= 0
# Of `make fuzz`, and `make test` makes a few hundred of them.
CALLS  ?= 12000
# Of `make chaos`; `make test` has a few of each.
RESTARTS ?= 100
SWAPS  ?= 100
WORKER_KILLS ?= 20
# Of `make soak`.
MINUTES ?= 30

.DEFAULT_GOAL := help
.PHONY: help install run test cluster-test check bench kill-matrix fuzz chaos soak compile manifests images images-test clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(BIN)/.installed ## Make .venv with everything that runs on a laptop

run: $(BIN)/.installed ## Run the whole road on sample data and end with a prediction from the served model
	@$(BIN)/fairlead run --sample --predict "Find the shortest path between two nodes of a weighted graph."

test: $(BIN)/.installed-dev ## Run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) $(TESTS)

cluster-test: $(BIN)/.installed-dev ## Run the manifests and commands on the cluster that KUBECONFIG names, in a namespace of their own
	$(BIN)/python -m pytest -m cluster -p no:cacheprovider tests/on_cluster

check: $(BIN)/.installed-dev ## Check format, lint, types, import contracts and manifests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports --no-cache
	$(BIN)/python -m pip check
	PYTHON=$(BIN)/python manifests/validate.sh

bench: $(BIN)/.installed-dev ## Measure what docs/benchmarks.md states, on the data sets in FAIRLEAD_DATASETS
	$(BIN)/python -m benchmarks.quality
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.serving

kill-matrix: $(BIN)/.installed-dev ## Kill training KILLS times at moments drawn by SEED, and check that it ends with the same weights
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.kills.matrix --kills $(KILLS) --seed $(SEED)

fuzz: $(BIN)/.installed-dev ## Send CALLS malformed requests to a model server by SEED, over REST, gRPC and bare sockets
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.serving.fuzz.run --calls $(CALLS) --seed $(SEED)

chaos: $(BIN)/.installed-dev ## Restart servers, swap versions and kill workers under load, and look for a request that was lost
	$(BIN)/python -m tests.serving.chaos.run --restarts $(RESTARTS) --swaps $(SWAPS) --kills $(WORKER_KILLS) --seed $(SEED)

soak: $(BIN)/.installed-dev ## Load a model server for MINUTES and see that memory and times stay as they are
	$(BIN)/python -m benchmarks.serving_soak --minutes $(MINUTES)

compile: $(BIN)/.installed ## Write the KFP package of the pipeline to build/training.yaml
	$(BIN)/fairlead compile --output build/training.yaml

manifests: $(BIN)/.installed ## Write what is generated in manifests/: the Kubernetes-native pipeline and the dashboards
	$(BIN)/fairlead compile --kubernetes --output manifests/base/pipelines/training.yaml
	PYTHONPATH=. $(BIN)/python -m manifests.dashboards

images: ## Build the container images with docker or buildah, and archive them in build/images
	ARCHIVES=build/images ./components/build-images.sh

images-test: $(BIN)/.installed-dev ## Run every step and the model server in their containers (as root, with buildah and runc)
	$(BIN)/python -m pytest -m containers tests/containers

clean: ## Remove what the targets made here; .fairlead, with your models, stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install --constraint constraints.txt torch==2.13.0
	$(PIP) install --constraint constraints.txt --editable '.[all]'
	@touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@touch $@
