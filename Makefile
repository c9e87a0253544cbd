# Every target makes what it needs: the first one builds .venv, later ones reuse it.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/installed
BENCHMARKS := $(filter-out %/__init__.py,$(wildcard benchmarks/*.py))

.DEFAULT_GOAL := environment
.PHONY: environment sweep test test-cold check drills month bench docs clean

environment: $(INSTALLED)

# A stamp file, because the date of a folder says nothing about what was installed into it.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e ".[tune,report,attack,data,cluster,dev]"
	touch $@

# make sweep ARGS="--trials 4"
sweep: $(INSTALLED)
	$(BIN)/mixunlearn sweep experiments/mnist_class.yaml $(ARGS)

# Three processes, for much is waiting, a file each at a time; those with slow tests come first (tests/conftest.py).
# make test ARGS="tests/core -x"
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# The same tests without the fork server (tests/warm.py): every process imports what it needs itself, which takes long.
# Meant for once a night, and for before a release.
test-cold: $(INSTALLED)
	TESTS_COLD=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Sweeps that are killed, cut off and filled up; about an hour on 2 cores. make drills ARGS="kill-driver --runs 5"
drills: $(INSTALLED)
	$(BIN)/python -m tests.drills.run --write $(ARGS)

# 30 nights in one go, a worse library and a change of the data among them; some twenty minutes on 2 cores.
month: $(INSTALLED)
	$(BIN)/python -m tests.drills.month $(ARGS)

# Each benchmark prints one JSON line on standard output.
bench: $(INSTALLED)
	@for script in $(BENCHMARKS); do \
	    echo "$$script" >&2; PYTHONPATH=. $(BIN)/python "$$script" $(ARGS) || exit 1; \
	done

# Nothing is built: the documentation is Markdown, read where it lies.
docs:
	@ls -1 README.md CONTRIBUTING.md $(wildcard docs/*.md)

# What was made from sources; .venv and the results in runs/ stay.
clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .benchmarks dist build
	find . -name .venv -prune -o -name runs -prune -o -name __pycache__ -exec rm -rf {} +
