# The habits of this project, one line each. Every target does its own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(if $(filter Windows_NT,$(OS)),$(VENV)/Scripts,$(VENV)/bin)
#: processes that share the tests, a file at a time, each on one core; `make test WORKERS=0` runs all in one
WORKERS ?= 2
# a test that hangs fails, and does not cost the results of all others
TESTS := -m pytest -m "not slow and not gpu" --numprocesses $(WORKERS) --dist loadfile --timeout 300
#: interpreters of `make test-pythons`
PYTHONS ?= python3.11 python3.12 python3.13

.PHONY: demo smoke test test-pythons test-lowest test-slow torture torture-launchers test-gpu bench bench-gpu bench-scores bench-growth bench-launchers fidelity bench-datasets lint format docs extractors clean

$(VENV)/.installed: pyproject.toml
	@echo "Installing into $(VENV). The first time pip fetches torch, with CUDA several GB: that takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(VENV)/.installed  ## train two DCGANs on real handwritten digits, score them, draw from them
	rm -rf demo
	$(BIN)/ganzoo demo --out demo

test: $(VENV)/.installed  ## the tests, without the ones that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python $(TESTS)

test-pythons:  ## the same with every Python that is supported, each in an environment of its own
	for python in $(PYTHONS); do $(MAKE) test PYTHON=$$python VENV=$(VENV)-$$python || exit 1; done

# what a user has who installed the oldest versions that pyproject.toml allows
test-lowest: $(VENV)-lowest/.installed  ## the same with the lowest versions of all dependencies
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python $(TESTS)

$(VENV)-lowest/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)-lowest/bin/uv pip compile --quiet --no-header --resolution lowest-direct --extra dev \
	  --python $(VENV)-lowest/bin/python pyproject.toml --output-file $(VENV)-lowest/requirements.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r $(VENV)-lowest/requirements.txt -e '.[dev]'
	touch $@

smoke: $(VENV)/.installed  ## a short training, samples, a resume: a minute, on any system
	rm -rf $(VENV)/smoke
	$(BIN)/ganzoo train mlp-vanilla digits:size=8 --steps 20 --out $(VENV)/smoke
	$(BIN)/ganzoo sample $(VENV)/smoke
	$(BIN)/ganzoo resume $(VENV)/smoke --steps 40
	$(BIN)/ganzoo evaluate $(VENV)/smoke --samples 200

test-slow: $(VENV)/.installed  ## the ones that take minutes
	$(BIN)/python -m pytest -m slow

torture: $(VENV)/.installed  ## kill -9 a thousand times
	GANZOO_KILLS=1000 $(BIN)/python -m pytest tests/training/test_kill.py -s

torture-launchers: $(VENV)/.installed  ## one grid on all launchers; 20 workers and 10 drivers of a grid killed, on local and on ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/experiments/test_launchers.py -m slow -s

test-gpu: $(VENV)/.installed  ## the ones that need a CUDA device
	$(BIN)/python -m pytest -m gpu

bench: $(VENV)/.installed $(VENV)-tensorflow/.installed  ## on a CPU: steps beside a textbook's and TensorFlow's, what is beside a step (archive of MNIST in GANZOO_DATA)
	$(BIN)/python benchmarks/cpu.py --tensorflow $(VENV)-tensorflow/bin/python

# TensorFlow stays in an environment of its own: it is only measured against
$(VENV)-tensorflow/.installed:
	$(PYTHON) -m venv $(VENV)-tensorflow
	$(VENV)-tensorflow/bin/python -m pip install --quiet --disable-pip-version-check tensorflow
	touch $@

bench-gpu: $(VENV)/.installed  ## on a CUDA device: steps, scores and two trainings in at most 8 minutes (archives in GANZOO_DATA)
	$(BIN)/python benchmarks/gpu.py

bench-scores: $(VENV)/.installed  ## Inception features and the solve against torchmetrics, domain scores (archive of MNIST in GANZOO_DATA)
	$(BIN)/python benchmarks/scores.py

bench-growth: $(VENV)/.installed  ## a step against batch, image size, channels, ranks and streamed data, in at most 6 minutes
	$(BIN)/python benchmarks/growth.py

bench-launchers: $(VENV)/.installed  ## 2,000 empty trials on this machine and on Ray, their table and report
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/launchers.py

fidelity: $(VENV)/.installed  ## docs/fidelity.md: the errors of the members against recorded numbers of the official programs
	$(BIN)/python benchmarks/fidelity_table.py

bench-datasets: $(VENV)/.installed  ## images a second of shards, parquet, npy and a folder beside those in memory; an epoch under a memory limit (7 GB of disk)
	$(BIN)/python benchmarks/large_datasets.py

lint: $(VENV)/.installed  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed  ## the documentation as a site, without a network; build/docs/index.html opens in any browser
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs
	@echo build/docs/index.html

extractors: $(VENV)/.installed  ## train the pinned domain extractors anew (needs MNIST and Fashion-MNIST)
	$(BIN)/python benchmarks/train_extractors.py

clean:
	rm -rf $(VENV) $(VENV)-* demo build dist .pytest_cache .mypy_cache .ruff_cache
