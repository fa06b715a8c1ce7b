# Two commands matter: `make book` builds the site, `make test` checks everything.
# Both set up .venv on first use. `make` alone lists the rest.

# GNU make 3.81, which macOS ships, knows no .SHELLFLAGS; tests/tools/test_setup.py has the list.
SHELL := bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
TORCH ?= 2.13.0
PIP_FLAGS ?=
# Of `make test` and `make notebooks`: native, avx2, plain or jitter, see tools/cpu.py; seeds of jitter.
CPU ?= native
SEEDS ?= 1 2 3
# Of `make results`: processes, or dask with the address of its scheduler; FRESH=1 keeps nothing.
ENGINE ?= processes
ADDRESS ?=
WORKERS ?= 2
FRESH ?=
PARTS ?=
# Of `make vae`, as in VAE_FLAGS="--sizes 8x64 --plan 5".
VAE_FLAGS ?=
# Of `make device`, as in DEVICE_FLAGS="--device cpu --minutes 1".
DEVICE_FLAGS ?=
# Of `make lab`, as in LAB_FLAGS="--no-browser --allow-root".
LAB_FLAGS ?=

BIN := $(VENV)/bin
SITE := _build/html
STAMPS := _build/stamps
NOTEBOOKS := $(sort $(wildcard book/*.ipynb))
# Compiled once and kept: where a machine forbids it, each of the many processes compiles torch anew.
unexport PYTHONDONTWRITEBYTECODE

# One thread a process: sums then have one order, and JOBS processes do not fight over cores.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# What the book shows comes from the pure form: the kernel rounds differently.
PURE := ILS_KERNEL=0
# The laboratory, book/lab, is not installed: processes find it here.
export PYTHONPATH := $(CURDIR)/book$(if $(PYTHONPATH),:$(PYTHONPATH))

# What the pages are made from.
MODULES := $(shell find ils -name '*.py' -not -path '*/.*')
PAGES := $(shell find book -type f -not -path '*/.*' -not -name '*.pyc')

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "Settings: PYTHON=$(PYTHON) VENV=$(VENV) JOBS=$(JOBS) (processes)"

# --- set-up ---------------------------------------------------------------------------

# make splits names at spaces.
ifneq ($(words $(CURDIR)),1)
$(error The path of this folder, "$(CURDIR)", has a space: move it to one without)
endif
ifneq ($(words $(VENV)),1)
$(error VENV="$(VENV)" must be one path without a space)
endif
# Another PYTHON= makes the environment anew; without one what stands is kept.
ifneq ($(origin PYTHON),file)
ASKED := --asked
OTHER := $(shell $(PYTHON) tools/environment.py $(VENV) --stale)
endif

.PHONY: setup
setup: $(VENV)/.installed ## make .venv with the pinned packages and ils, editable

# Until the last line the environment counts as unfinished, and is then made anew.
$(VENV)/.installed: requirements.lock pyproject.toml $(OTHER)
	@rm -f $@
	@$(PYTHON) tools/environment.py $(VENV) $(ASKED)
	# Compiling everything takes a third of the time; Python compiles what it imports anyway.
	$(BIN)/python -m pip install --quiet --no-compile $(PIP_FLAGS) -r requirements.lock
	# Without isolation: a build environment of its own would fetch an unpinned setuptools.
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.unfinished
	@touch $@

.PHONY: lab
lab: $(VENV)/.notebook ## start JupyterLab on the experiments to try, in book/try
	cd book/try && $(PURE) $(abspath $(BIN))/jupyter-lab $(LAB_FLAGS)

# JupyterLab is not part of the environment: neither the book nor a test needs it.
$(VENV)/.notebook: requirements-notebook.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile $(PIP_FLAGS) -c requirements.lock -r requirements-notebook.lock
	@touch $@

.PHONY: kernel
kernel: $(VENV)/.installed ## build the optional fused kernel for this CPU, and verify it
	$(BIN)/python -m ils.kernel

.PHONY: lock
lock: ## resolve the extras of pyproject.toml anew into requirements.lock and requirements-notebook.lock
	$(PYTHON) tools/lock.py $(TORCH)

.PHONY: lock-check
lock-check: $(VENV)/.installed ## ask the index whether every pin has a wheel for each Python and platform
	$(BIN)/python tools/lock_check.py

# --- the book -------------------------------------------------------------------------

.PHONY: book
book: $(STAMPS)/book ## build the site, strictly, into _build/html
	@echo "The book is at $(SITE)/index.html"

.PHONY: figures
figures: $(STAMPS)/figures ## export SVG, PDF, PNG and CSV of each figure, out of the committed notebooks

# A date cannot show that a file was removed; a list of names can.
.PHONY: FORCE
$(STAMPS)/names: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(sort $(MODULES) $(PAGES)) | cmp -s - $@ || printf '%s\n' $(sort $(MODULES) $(PAGES)) > $@

$(STAMPS)/figures: $(VENV)/.installed $(STAMPS)/names $(NOTEBOOKS) tools/export_figures.py
	$(BIN)/python tools/export_figures.py _build/figures/figures $(NOTEBOOKS)
	@touch $@

# Browser libraries, out of the packages that carry them.
VENDORED := _build/vendor/mathjax/tex-svg-full.js _build/vendor/bokeh/bokeh.min.js
$(VENDORED): $(VENV)/.installed tools/vendor.py
	$(BIN)/python tools/vendor.py $@
	@touch $@

# What the explorers draw: plots without data, and the numbers of the plane.
EXPLORER := _build/explorer/explorer-toy.js
$(EXPLORER): $(VENV)/.installed tools/explorer.py $(wildcard book/data/quality-*) book/lab/bias_variance/plane.py book/lab/methods/catalogue.py
	$(BIN)/python tools/explorer.py $(@D)
	@touch $@

# The tests whose sources the book shows.
NAMED_TESTS := $(wildcard $(shell grep -oh 'tests/[a-z0-9_/]*\.py' book/*.md book/*.ipynb | sort -u))

# From an empty folder each time: a warm build repeats no warning and keeps old glued numbers.
$(STAMPS)/book: $(STAMPS)/figures $(VENDORED) $(EXPLORER) $(STAMPS)/names $(PAGES) $(MODULES) $(NAMED_TESTS) _config.yml _toc.yml
	rm -rf $(SITE) _build/.doctrees
	$(BIN)/jupyter-book build . --all -W --keep-going -n
	@touch $@

# Not part of `make book`, although it takes but 15 seconds on two cores: the book can be built, and
# while writing is built again and again, without a browser. So the site links to the PDF only
# once there is one: tools/pdf.py writes the link. `make book` begins with an empty folder, which
# takes away both; `make test` makes both anew, if there is a browser to print with.
.PHONY: pdf
pdf: $(STAMPS)/pdf ## print the whole book into _build/html/ils-report.pdf: needs Chromium

$(STAMPS)/pdf: $(STAMPS)/book tools/pdf.py tools/single_page.py tools/print.css tools/print.js tools/browser.py pyproject.toml CITATION.cff
	$(BIN)/python tools/pdf.py
	@touch $@

BROWSER := $(firstword $(foreach name,chromium chromium-browser google-chrome,$(shell command -v $(name))))

# --- checks ---------------------------------------------------------------------------

.PHONY: test
test: lint book $(if $(BROWSER),pdf) ## run every check: lint, unit tests, notebooks against their outputs, site, PDF
	# A notebook's cells must stay in one process; the mutations of the guard need not.
	$(if $(filter jitter,$(CPU)),,$(ON_CPU) tests/book/test_guard.py $(END))
	$(ON_CPU) $(BY_NOTEBOOK) --ignore tests/book/test_guard.py tests $(NOTEBOOKS) $(END)

.PHONY: notebooks
notebooks: $(VENV)/.installed ## of these, the notebooks alone
	$(ON_CPU) $(BY_NOTEBOOK) $(NOTEBOOKS) $(END)

# pytest with the settings of CPU, under jitter with each seed in turn.
ON_CPU = for seed in $(if $(filter jitter,$(CPU)),$(SEEDS),none); do \
	  settings=$$(SEED=$$seed $(BIN)/python tools/cpu.py $(CPU)) || exit 1; \
	  env $(ONE_THREAD) $(PURE) $$settings $(BIN)/python -m pytest -n $(JOBS)
END = || exit 1; done
BY_NOTEBOOK := --dist loadfile --nbval --nbval-current-env

.PHONY: lint
lint: $(VENV)/.installed ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: peers
peers: $(VENV)/.installed ## run the suites of PyTorch and Pyro with our classes: PEERS=folder of their sources
	@$(if $(PEERS),,echo "PEERS: name a folder with unpacked sources of PyTorch, of Pyro, or both" >&2; exit 2)
	$(ONE_THREAD) $(PURE) $(BIN)/python tools/peers.py $(PEERS)

.PHONY: mutants
mutants: $(VENV)/.installed ## plant small errors into ils, and count those that no test notices
	$(BIN)/python tools/mutants.py --fresh --jobs $(JOBS)

# --- results --------------------------------------------------------------------------

.PHONY: run
run: $(VENV)/.installed ## execute all notebooks and write their outputs in place
	$(ONE_THREAD) $(PURE) $(BIN)/python tools/run_notebooks.py --jobs $(JOBS) $(NOTEBOOKS)
	# The README's picture; a test holds it equal to the notebook's.
	$(MAKE) figures
	cp _build/figures/figures/fig-controlled.svg book/assets/

ENGINE_OPTIONS = --engine $(ENGINE) --workers $(WORKERS) $(if $(ADDRESS),--address $(ADDRESS)) $(if $(FRESH),--fresh)

.PHONY: results
results: $(VENV)/.installed ## make the records of the long runs, in book/data, that are not current
	$(PURE) $(BIN)/python -m lab results $(PARTS) $(ENGINE_OPTIONS)

.PHONY: records
records: $(VENV)/.installed ## list the records, and whether each was made from the sources as they are
	@$(BIN)/python -m lab list

.PHONY: sweep
sweep: $(VENV)/.installed ## make those of the benchmarks anew: every method on every problem
	$(PURE) $(BIN)/python -m lab sweep $(TASKS) $(ENGINE_OPTIONS)

.PHONY: search
search: $(VENV)/.installed ## make those of the search for a better default anew, after the sweep
	$(PURE) $(BIN)/python -m lab search $(ENGINE_OPTIONS)

.PHONY: vae
vae: $(VENV)/.installed ## train VAEs of real size: IMAGES=folder of the four files of Fashion-MNIST or MNIST
	@$(if $(IMAGES),,echo "IMAGES: name the folder of the four files in the IDX format" >&2; exit 2)
	$(PURE) $(BIN)/python -m lab vae $(IMAGES) $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(DEVICE),--device $(DEVICE)) $(VAE_FLAGS) $(ENGINE_OPTIONS)

.PHONY: bench
bench: $(VENV)/.installed ## time the operators into book/data: on a quiet machine, after make kernel
	$(BIN)/python -m lab bench
	$(ONE_THREAD) $(PURE) $(BIN)/python -m lab pace

# Neither needs nor makes the environment: PYTHON has a PyTorch of its own, 2.11 or newer.
.PHONY: device
device: ## check, time and train on an accelerator, eight minutes at most, into _build/device
	$(PYTHON) tools/device.py $(DEVICE_FLAGS)

.PHONY: links
links: $(STAMPS)/book ## list the links that lead out; with CHECK=1 ask each of them
	$(BIN)/python tools/links.py $(if $(CHECK),--check)

.PHONY: screenshots
screenshots: $(STAMPS)/book ## picture every page into _build/screenshots
	$(BIN)/python tools/screenshots.py _build/screenshots

# --- tidying --------------------------------------------------------------------------

.PHONY: clean
clean: ## remove what was built, and caches
	rm -rf _build .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -not -path './.venv/*' -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	find book -name .ipynb_checkpoints -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove the environment too
	rm -rf $(VENV) ils.egg-info
