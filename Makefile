# Two commands do everything: `make run` and `make test`. Set-up is part of both.
#
#   make TORCH_INDEX=https://download.pytorch.org/whl/cpu run    torch from PyTorch's CPU index (200 MB instead of 5 GB)
#   make ARGS='-p profile smoke' run                             parameters, see `make params`
#   make EXTRAS='ncnn executorch torchao' run                    backends that are not in the default set
SUPPORTED   := (3, 11, 5) <= sys.version_info[:3] < (3, 14)
PYTHON      ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
                 $$name -c 'import sys; sys.exit(not $(SUPPORTED))' 2>/dev/null && { command -v $$name; break; }; done)
TORCH_INDEX ?=
ARGS        ?=
EXTRAS      ?=
BIN         := .venv/bin
READY       := .venv/.ready
PIP         := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test coverage test-lab serve-check container-check loop rehearse lint lab params lock lock-check clean .venv

help:  ## show this list
	@awk -F':.*## ' '/^[a-z.-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) $(EXTRAS:%=.venv/.extra-%)  ## set up if needed, then run the whole series; pages in runs/latest/
	$(BIN)/python -m lib run $(ARGS)

# Lint runs beside the tests: mypy uses one core. What it says comes after them, and either ends this with an error.
test: $(READY) $(EXTRAS:%=.venv/.extra-%)  ## set up if needed, then lint and test; ARGS=--slow: also what takes long
	@mkdir -p build
	@make --no-print-directory lint >build/lint.log 2>&1 & lint=$$!; \
	$(BIN)/python -m pytest -n auto $(ARGS); tests=$$?; \
	wait $$lint; lint=$$?; cat build/lint.log; exit $$((tests || lint))

coverage: $(READY) $(EXTRAS:%=.venv/.extra-%)  ## the tests, and which public functions of lib/ none of them executes
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest -n auto --slow $(ARGS)
	$(BIN)/python -m tests.unexecuted

lint: $(READY)  ## ruff and mypy; schemas of the workflow files and the citation; security of the workflow files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/zizmor --offline --persona auditor --strict-collection --no-progress --quiet .

loop: $(READY) .venv/.extra-serve  ## a release, drift, retraining, promotion and the way back, on drawn images; a few minutes
	$(BIN)/python -m tests.loop $(ARGS)

rehearse: $(READY)  ## every step of the workflow on this machine, and what must go wrong; log in build/rehearsal/
	$(BIN)/python -m tests.rehearsal $(ARGS)

test-lab: $(READY)  ## every notebook in a real JupyterLab, in Chromium; screenshots in build/lab/
	$(BIN)/python -m pytest --slow --lab -s tests/test_lab.py $(ARGS)

serve-check: $(READY) .venv/.extra-serve  ## how the server holds: load, overload, soak, a kill; 35 minutes, on a quiet machine
	$(BIN)/python -m tests.serve_check $(ARGS)

container-check: $(READY)  ## the steps of the Containerfile as plain commands, and how large an image they make
	$(BIN)/python -m tests.container $(ARGS)

# The kernel `python3` is that of this environment, whatever the user has installed under the name.
lab: $(READY)  ## open the notebooks in JupyterLab
	JUPYTER_PATH="$(CURDIR)/.venv/share/jupyter$${JUPYTER_PATH:+:$$JUPYTER_PATH}" $(BIN)/jupyter lab --notebook-dir=. notebooks/01_explore.ipynb

params: $(READY)  ## list the parameters of the notebooks
	@$(BIN)/python -m lib params

.venv: $(READY) $(EXTRAS:%=.venv/.extra-%)  ## set-up alone

# Made again when a requirements file is newer. Torch comes from a place of its own: see requirements-torch.txt. The lock is
# complete; papermill asks for aiohttp on Python 3.12 alone and never imports it, so pip resolves nothing (--no-deps).
$(READY): requirements.lock requirements-torch.txt pyproject.toml
	@test "$$(uname -s)" = Linux || { echo "error: Linux (x86-64 or Arm) is needed, this is $$(uname -s); use a virtual machine, WSL 2 or a container" >&2; exit 1; }
	@test -n "$(PYTHON)" || { echo "error: found no Python 3.11.5 to 3.13 as python3.11, python3.12, python3.13 or python3; install one, or give one with make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(0 if $(SUPPORTED) else f"error: Python 3.11.5 to 3.13 is needed, $(PYTHON) is {sys.version.split()[0]}; install one, or give one with make PYTHON=/path/to/python")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear .venv
	@echo "setting up .venv (a few minutes the first time)"
	$(PIP) --no-deps --require-hashes -r requirements.lock
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -r requirements-torch.txt
	$(PIP) --no-deps --editable .
	@touch $@

# The files name all that is needed: what the packages themselves ask for is much more.
.venv/.extra-%: requirements-%.txt $(READY)
	$(PIP) --no-deps -r $<
	@touch $@

# Two are left out: jsonschema takes them where they are, for addresses with foreign letters, and building their grammars
# makes every start of papermill, JupyterLab, pytest and check-jsonschema seconds slower.
lock: $(READY)  ## resolve requirements.lock again from the direct requirements
	$(PIP) pip-tools==7.6.2
	$(BIN)/pip-compile --quiet --generate-hashes --unsafe-package lark --unsafe-package rfc3987-syntax --strip-extras --no-header --no-emit-options \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	  --output-file requirements.lock requirements.txt requirements-dev.txt

# glibc 2.39 of ubuntu-24.04 takes wheels up to manylinux_2_39; these tags cover all that the lock names.
lock-check: $(READY)  ## every pinned version has a wheel for x86-64 and for Arm, for each Python
	@for python in 3.11.5 3.12 3.13; do for machine in x86_64 aarch64; do \
	  tags=""; for glibc in 2_17 2_24 2_26 2_27 2_28 2_31 2_34 2_35; do tags="$$tags --platform manylinux_$${glibc}_$$machine"; done; \
	  for file in requirements.lock requirements-torch.txt requirements-ncnn.txt requirements-executorch.txt requirements-torchao.txt requirements-serve.txt requirements-serve-test.txt requirements-sign.txt requirements-ray.txt requirements-slurm.txt; do \
	    $(PIP) --dry-run --ignore-installed --no-deps --only-binary=:all: --python-version $$python \
	      --platform manylinux2014_$$machine $$tags --target build/wheels -r $$file \
	      && echo "$$file: wheels for Python $$python on $$machine" || exit 1; \
	  done; \
	done; done

clean:  ## remove the environment, caches and build files; runs/ and data/ are kept
	rm -rf .venv .cache .coverage* build .mypy_cache .ruff_cache .pytest_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
