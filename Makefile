# Everything runs in .venv, which the first target that needs it builds from the pinned requirements.
# Needed on the machine: make and Python 3.11 or newer. Google's emulators and Terraform are used where they are found.

PACKAGES := $(wildcard functions local tests bench)
VENV     := .venv
READY    := $(VENV)/ready
STACK     = --backend '$(or $(BACKEND),sqlite)'$(if $(MBOX), --mbox '$(MBOX)')$(if $(SEED), --seed '$(SEED)')
COMPILE  := uv pip compile pyproject.toml --quiet --no-config --universal --python-version 3.11 --upgrade \
            --generate-hashes --custom-compile-command 'make requirements'

export PYTHONPATH := $(CURDIR)/functions:$(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help demo dev check format test requirements clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## the whole mirror on this machine, told step by step: BACKEND=sqlite|emulators MBOX=file SEED=number
	@$(VENV)/bin/python -m local demo $(STACK)

dev: $(READY)  ## the same stack, kept running: the same variables
	@$(VENV)/bin/python -m local dev $(STACK)

check: $(READY)  ## format, lint, types and who may import whom
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy $(PACKAGES)
	$(VENV)/bin/lint-imports --no-logo

format: $(READY)  ## put the code into shape
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

test: $(READY)  ## every test this machine can run: ARGS='-k history' for some; MAILMIRROR_REQUIRE=all lets none be skipped
	$(VENV)/bin/python -m pytest$(if $(ARGS), $(ARGS))

requirements: $(READY)  ## pin the newest versions that pyproject.toml allows
	$(VENV)/bin/$(COMPILE) --group dev --output-file requirements-dev.txt
	$(VENV)/bin/$(COMPILE) --constraints requirements-dev.txt --output-file functions/requirements.txt

clean:  ## remove .venv and every cache
	rm -rf $(VENV) .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(PACKAGES) -name __pycache__ -prune -exec rm -rf {} +

$(READY): requirements-dev.txt
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "Preparing $(VENV) with $$("$$python" --version) and the pinned requirements: a minute, once." && \
	        "$$python" -m venv --clear $(VENV) && \
	        $(VENV)/bin/pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.txt && \
	        touch $@ && exit 0; \
	        echo "Could not prepare $(VENV): the reason is above." >&2; exit 1; \
	    fi; \
	done; \
	echo "Mailmirror needs Python 3.11 or newer: put python3, or python3.11 to python3.14, on the PATH." >&2; exit 1
