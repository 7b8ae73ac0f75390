# Each target makes .venv and installs its packages, once, and again when pyproject.toml has changed.
PYTHON ?= python3
ARGS ?=
FOLDER ?=
KEPT := --readme benchmarks/README.md --plots benchmarks/plots

.DEFAULT_GOAL := help
.PHONY: help demo test thorough lint bench bench-peers torture soak clean
# Targets share one .venv, into which two pips must not write at once.
.NOTPARALLEL:
.DELETE_ON_ERROR:

BIN := .venv/bin
PY := $(BIN)/python
PYTEST := $(PY) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
# A python that was asked for is the one that is used; the default one may be too old where a newer one is there.
PYTHONS := $(PYTHON) $(if $(filter file,$(origin PYTHON)),python3.14 python3.13 python3.12 python3.11 python3.10)

help:
	@echo 'make demo   count a folder of files with two workers, one of them killed; FOLDER=... names another folder'
	@echo 'make test   the tests; ARGS="-m \"not slow\"" for the quick ones'
	@echo 'make thorough  those that make test leaves out, which take some minutes: more servers, drivers and moments of the same kinds'
	@echo 'make lint   ruff, mypy, and pyright --verifytypes (99 % or more)'
	@echo 'make bench  the measurements, beside huey; into benchmarks/README.md, unless ARGS=... says otherwise'
	@echo 'make bench-peers  the same measurements, groups and chords beside RQ, Celery, Dramatiq, ARQ, SAQ, persist-queue, DBOS; fetches them and a Redis'
	@echo 'make torture  kills of workers (ARGS=...), stops of every kind, limits and compositions under kills, child processes that die, each call of the disk failing in turn, power cuts, a death at each statement, forks in C, races from seeds, hostile input'
	@echo 'make soak   32 processes enqueue and 4 work for an hour; ARGS="--minutes 10"'
	@echo 'make clean  remove .venv, .venv-peers* and everything that was built or cached'
	@echo 'PYTHON=...  the interpreter to make .venv with (3.10 or newer; default: python3)'

demo: .venv/.stamp-demo
	@$(PY) -m examples.demo $(FOLDER) $(ARGS)

test: .venv/.stamp-test .venv/.stamp-servers .venv/.stamp-frozen
	@$(PYTEST) -m 'not thorough' $(ARGS)

thorough: .venv/.stamp-test .venv/.stamp-servers .venv/.stamp-frozen
	@timeout -k 10 1200 $(PYTEST) -m thorough $(ARGS)

lint: .venv/.stamp-lint
	@$(BIN)/ruff check --quiet --output-format concise .
	@$(BIN)/ruff format --quiet --check . || { echo 'not formatted: run $(BIN)/ruff format .'; exit 1; }
	@$(BIN)/mypy --no-error-summary
	@PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes litequeue --ignoreexternal --outputjson | $(PY) -c "$$TYPES_KNOWN"

bench: .venv/.stamp-bench
	@$(PY) -m benchmarks $(or $(ARGS),$(KEPT))

bench-peers: .venv-peers/.stamp-peers .venv-peers-arq/.stamp-peers-arq .venv-peers/redis
	@.venv-peers/bin/python -m benchmarks.peers $(or $(ARGS),$(KEPT))

torture: .venv/.stamp-test
	@$(PY) -m tests.crash.torture --kills 200 --jobs 20000 $(ARGS)
	@$(PY) -m tests.crash.stops --stops 300
	@$(PY) -m tests.crash.limits
	@$(PY) -m tests.crash.compositions
	@$(PY) -m tests.crash.children
	@cd tests && ../$(PY) -m faults
	@cd tests && ../$(PY) -m power
	@cd tests && ../$(PY) -m crash.statements
	@$(PY) -m tests.crash.forks --forks 200
	@cd tests && ../$(PY) -m model --seconds 200
	@cd tests && ../$(PY) -m model --seconds 40 --remote
	@cd tests && PYTHONPATH=.. ../$(PY) -m fuzz

soak: .venv/.stamp-test
	@$(PY) -m tests.crash.soak $(ARGS)

clean:
	@rm -rf .venv .venv-peers .venv-peers-arq build dist *.egg-info .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

.venv/.stamp-%: pyproject.toml | $(PY)
	@echo 'installing litequeue[$*] into .venv ...'
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip >/dev/null
	@$(PY) -m pip install -qq --disable-pip-version-check --editable '.[$*]'
	@touch $@

# Peers have venvs of their own, for their requirements conflict with each other's.
.venv-peers/.stamp-% .venv-peers-arq/.stamp-%: pyproject.toml | $(PY)
	@echo 'installing litequeue[$*] into $(@D) ...'
	@[ -x $(@D)/bin/python ] || $(PY) -m venv $(@D)
	@$(@D)/bin/python -m pip install -qq --disable-pip-version-check --editable '.[$*]'
	@touch $@

# A redis-server from Debian's packages, unpacked and not installed: no root, and no service that starts by itself.
.venv-peers/redis: | .venv-peers/.stamp-peers
	@if command -v redis-server >/dev/null; then \
	    mkdir -p $@; \
	elif command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then \
	    echo 'unpacking redis-server into $@ ...'; \
	    mkdir -p $@.part && cd $@.part && \
	    apt-get download -qq $$(apt-get install --simulate --no-install-recommends redis-server | awk '$$1 == "Inst" {print $$2}') && \
	    for package in *.deb; do dpkg-deb --extract $$package . || exit 1; done && \
	    cd - >/dev/null && mv $@.part $@; \
	else \
	    echo 'there is no redis-server, and no apt-get to fetch one: the queues on Redis are left out' >&2; \
	fi

$(PY):
	@for python in $(PYTHONS); do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	        echo "making .venv with $$($$python --version) ..."; \
	        $$python -m venv --clear .venv || { rm -rf .venv; exit 1; }; \
	        exit 0; \
	    fi; \
	done; \
	echo 'litequeue needs Python 3.10 or newer; tried: $(strip $(PYTHONS)). Name one: make PYTHON=/path/to/python' >&2; \
	exit 1

# pyright finds the installed litequeue through the `python` on PATH alone, and itself fails below 100 %.
define TYPES_KNOWN
import json, sys
known = json.load(sys.stdin)["typeCompleteness"]
score = 100 * known["completenessScore"]
print(f"pyright: {score:.1f} % of the public names have a known type")
if score < 99:
    for symbol in known["symbols"]:
        if symbol["isExported"] and not symbol["isTypeKnown"]:
            print("  ", symbol["name"])
    sys.exit(1)
endef
export TYPES_KNOWN
