# Everything runs in .venv, which the first target that needs it builds from the pinned requirements.
# Needed on the machine: make and Python 3.11 or newer. Google's emulators and Terraform are used where they are found.

PACKAGES := $(wildcard functions local mailmirror_cli mailmirror_client tests bench)
VENV     := .venv
READY    := $(VENV)/ready
# A value as one word of the shell, whatever is in it: o'brien@example.com is an address.
quoted    = '$(subst ','\'',$(1))'
STACK     = --backend $(call quoted,$(or $(BACKEND),sqlite))$(if $(MBOX), --mbox $(call quoted,$(MBOX)))$(if \
            $(SEED), --seed $(call quoted,$(SEED)))
COMPILE  := uv pip compile --quiet --no-config --universal --python-version 3.11 --upgrade \
            --generate-hashes --custom-compile-command 'make requirements'
# A lock tells which file each hash is of. It names addresses, too, so it is not kept.
PINS     := $(VENV)/pins
define PINS_PROJECT
[project]
name = "functions"
version = "0"
requires-python = ">=3.11"
[tool.uv]
environments = [
    "sys_platform == 'linux' and platform_machine == 'x86_64'",
]
endef
export PINS_PROJECT

WHERE     = -var $(call quoted,project=$(PROJECT)) -var $(call quoted,region=$(REGION))

# Before Terraform runs: where to is said, Terraform is there, and the state is where STATE says (once said, backend.tf remembers).
define TERRAFORM_READY
	if [ -z $(call quoted,$(PROJECT)) ] || [ -z $(call quoted,$(REGION)) ]; then \
	    echo "Say where to: make $@ PROJECT=my-project REGION=europe-west1" >&2; exit 1; \
	elif ! command -v terraform > /dev/null; then \
	    echo "Terraform 1.11 or newer is needed: put terraform on the PATH." >&2; exit 1; \
	fi; \
	case $(call quoted,$(STATE)) in \
	'') ;; \
	*[!a-z0-9._-]*) echo "STATE is the name of a bucket, such as my-bucket, without gs://." >&2; exit 1 ;; \
	*) printf 'terraform {\n  backend "gcs" {\n    bucket = "%s"\n    prefix = "mailmirror"\n  }\n}\n' \
	    $(call quoted,$(STATE)) > terraform/backend.tf ;; \
	esac; \
	terraform -chdir=terraform init -input=false || exit 1; \
	was=$$(terraform -chdir=terraform output -raw deployment 2> /dev/null | grep -E '^[a-z0-9-]+ in [a-z0-9-]+$$') || was=; \
	if [ -n "$$was" ] && [ "$$was" != $(call quoted,$(PROJECT) in $(REGION)) ]; then \
	    echo "The state here is that of $$was, which would be torn down. Another deployment needs a clone of its own." >&2; exit 1; \
	fi
endef

export PYTHONPATH := $(CURDIR)/functions:$(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help demo dev consent doctor check format test sim soak bench plan deploy docs requirements clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## the whole mirror on this machine, told step by step: BACKEND=sqlite|emulators MBOX=file SEED=number
	@$(VENV)/bin/python -m local demo $(STACK)

dev: $(READY)  ## the same stack, kept running: the same variables
	@$(VENV)/bin/python -m local dev $(STACK)

consent: $(READY)  ## ask a user for consent, where GMAIL_AUTH=oauth: PROJECT=id MAILBOX=address CLIENT=file (the OAuth client) SCOPES=list
	@$(VENV)/bin/python -m local consent --project $(call quoted,$(PROJECT)) --mailbox $(call quoted,$(MAILBOX)) \
	    --client $(call quoted,$(CLIENT))$(if $(SCOPES), --scopes $(call quoted,$(SCOPES)))

doctor: $(READY)  ## what is wrong with a deployment, and the commands that mend it: PROJECT=id REGION=name MAILBOX=address JSON=1
	@$(VENV)/bin/mailmirror doctor$(if $(PROJECT), --project $(call quoted,$(PROJECT)))$(if \
	    $(REGION), --region $(call quoted,$(REGION)))$(if $(MAILBOX), --mailbox $(call quoted,$(MAILBOX)))$(if $(JSON), --json)

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

sim: $(READY)  ## random schedules of crashes, faults and reorderings: SEEDS=2000 FIRST=0, or SEED=number alone, TRACE=1 for its story, or PLANTED=1 for the bugs it must find
	@$(VENV)/bin/python -m tests.simulation$(if $(SEEDS), --seeds $(call quoted,$(SEEDS)))$(if \
	    $(FIRST), --first $(call quoted,$(FIRST)))$(if $(SEED), --seed $(call quoted,$(SEED)))$(if \
	    $(TRACE), --trace)$(if $(PLANTED), --planted)

soak: $(READY)  ## functions killed and paused again and again on Google's emulators, mailbox and mirror compared: ROUNDS=100 SEED=number
	@$(VENV)/bin/python -m tests.e2e.soak --rounds $(call quoted,$(or $(ROUNDS),100))$(if \
	    $(SEED), --seed $(call quoted,$(SEED)))

bench: $(READY)  ## what it costs and how fast it is, against the bounds it promises: ONLY=subject JSON=file
	@$(VENV)/bin/python -m bench$(if $(ONLY), --only $(call quoted,$(ONLY)))$(if $(JSON), --json $(call quoted,$(JSON)))

plan:  ## what a deployment would change, saved in terraform/tfplan: PROJECT=id REGION=name STATE=bucket (for remote state)
	@$(TERRAFORM_READY)
	terraform -chdir=terraform plan $(WHERE) -out=tfplan -input=false -lock-timeout=120s

deploy:  ## deploy, or bring a deployment up to date, after a look at the plan: the same variables
	@$(TERRAFORM_READY)
	terraform -chdir=terraform apply $(WHERE) -lock-timeout=120s

docs: $(READY)  ## write README's tables of Terraform's inputs and outputs anew
	@$(VENV)/bin/python -m tests.terraform.tables

requirements: $(READY)  ## pin the newest versions that pyproject.toml allows
	$(VENV)/bin/$(COMPILE) pyproject.toml --group dev --output-file requirements-dev.txt
	mkdir -p $(PINS) && echo "$$PINS_PROJECT" > $(PINS)/pyproject.toml
	$(VENV)/bin/$(COMPILE) pyproject.toml --constraints requirements-dev.txt --output-file $(PINS)/requirements.txt
	$(VENV)/bin/uv add --quiet --project $(PINS) --frozen --requirements $(PINS)/requirements.txt
	$(VENV)/bin/uv lock --quiet --project $(PINS)
	$(VENV)/bin/uv export --quiet --project $(PINS) --frozen --no-emit-project --format pylock.toml --output-file $(PINS)/pylock.toml
	$(VENV)/bin/python -m tests.terraform.pins $(PINS)/pylock.toml
	$(VENV)/bin/$(COMPILE) --group checkov --output-file requirements-checkov.txt
	$(VENV)/bin/$(COMPILE) --group lieer --no-emit-package notmuch2 --output-file requirements-lieer.txt

clean:  ## remove .venv and every cache
	rm -rf $(VENV) .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find $(PACKAGES) -name __pycache__ -prune -exec rm -rf {} +

$(READY): requirements-dev.txt
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        echo "Preparing $(VENV) with $$("$$python" --version) and the pinned requirements: a minute, once." && \
	        "$$python" -m venv --clear $(VENV) && \
	        $(VENV)/bin/pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.txt && \
	        $(VENV)/bin/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable . && \
	        touch $@ && exit 0; \
	        echo "Could not prepare $(VENV): the reason is above." >&2; exit 1; \
	    fi; \
	done; \
	echo "Mailmirror needs Python 3.11 or newer: put python3, or python3.11 to python3.14, on the PATH." >&2; exit 1
