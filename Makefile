# Every target builds .venv first if it is missing.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/installed
BENCHMARKS := $(filter-out %/__init__.py,$(wildcard benchmarks/*.py))

.DEFAULT_GOAL := environment
.PHONY: environment sweep test test-drills test-cold check drills month bench dist docs docs-serve clean

environment: $(INSTALLED)

# A stamp file, because the date of the folder .venv does not show when something was installed.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e ".[tune,report,attack,data,cluster,docs,dev]"
	touch $@

# make sweep ARGS="--trials 4"
sweep: $(INSTALLED)
	$(BIN)/mixunlearn sweep experiments/mnist_class.yaml $(ARGS)

# Three processes, because tests wait a lot. Each gets one file at a time; files with slow tests
# come first (tests/conftest.py).
# make test ARGS="tests/core -x"
test: $(INSTALLED)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# Sweeps that are disturbed on purpose, once each and with few trials; seven minutes.
test-drills: $(INSTALLED)
	$(BIN)/python -m pytest -m drill $(ARGS)

# Both without the fork server (tests/warm.py): every process does its own imports, which is slow.
# Run it every night and before a release.
test-cold: $(INSTALLED)
	TESTS_COLD=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder \
	    -m "not browser" $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# Sweeps that are disturbed on purpose; about an hour on 2 cores.
# make drills ARGS="kill-driver --runs 5"
drills: $(INSTALLED)
	$(BIN)/python -m tests.drills.run --write $(ARGS)

# 30 nights in a row, with a worse library and changed data; some twenty minutes on 2 cores.
month: $(INSTALLED)
	$(BIN)/python -m tests.drills.month $(ARGS)

# Each benchmark prints one JSON line on standard output.
bench: $(INSTALLED)
	@for script in $(BENCHMARKS); do \
	    echo "$$script" >&2; PYTHONPATH=. $(BIN)/python "$$script" $(ARGS) || exit 1; \
	done

# Source archive and wheel in dist/, checked; then the wheel in an empty environment, from which the
# quickstart runs. That environment gets all packages again: some minutes.
dist: $(INSTALLED)
	rm -rf dist build # with the home of an earlier quickstart
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv build/empty
	build/empty/bin/pip install --quiet -c constraints.txt "$$(ls dist/*.whl)[all]"
	build/empty/bin/mixunlearn --version
	cd build && empty/bin/mixunlearn sweep digits_class --home home

# The site, in site/: dead links, missing references and pages outside of the navigation end it.
# The variable silences an announcement of the theme's authors.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(INSTALLED)
	$(BIN)/python -m mkdocs build --strict --clean $(ARGS)

# Builds it again after each change of a page: http://127.0.0.1:8000
docs-serve: export NO_MKDOCS_2_WARNING = 1
docs-serve: $(INSTALLED)
	$(BIN)/python -m mkdocs serve --dev-addr 127.0.0.1:8000 $(ARGS)

# Removes files made from the sources; .venv and the results in runs/ stay.
clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .benchmarks dist build site
	find . -name .venv -prune -o -name runs -prune -o -name __pycache__ -exec rm -rf {} +
