# `make` alone says what there is. Everything is put into .venv/ and .cache/ of this directory.

PYTHON3 ?= python3
ENVIRONMENTS = $(PYTHON3) scripts/environments.py
# The interpreter of the newest environment, made first if need be.
NEWEST = $$($(ENVIRONMENTS) --newest | tee /dev/stderr | tail -n 1)
PYTHONS ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check fix bench soak cluster postgres kafka docs lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1  \2/p' Makefile

setup: ## an environment for every Python 3.11 to 3.13 of this machine
	@$(ENVIRONMENTS) $(PYTHONS)

demo: ## trace a real third-party program and print where its time went (no root)
	@$(PYTHON3) scripts/demo.py

test: ## the whole suite on every Python (PYTHONS="3.13" for some, ARGS="-k writer" for pytest)
	@$(PYTHON3) scripts/run_tests.py --pythons "$(PYTHONS)" -- $(ARGS)

check: ## format, lint, types, import rules, generated docs, docs tests
	@$(PYTHON3) scripts/check.py

fix: ## format, and fix what the linter can
	@python=$(NEWEST) && $$python -m ruff check --fix --quiet . ; $$python -m ruff format .

bench: ## the benchmarks beside their peers (ARGS="--quick", "--only caller"; see benchmarks/)
	@python=$$($(ENVIRONMENTS) --newest --with bench $(PYTHONS) | tee /dev/stderr | tail -n 1) \
	  && $$python -m benchmarks $(ARGS)

soak: ## the long tests: fifty kill -9, a hundred overloads
	@$(PYTHON3) scripts/run_tests.py --soak --pythons "$(PYTHONS)" -- $(ARGS)

cluster: ## a Redis Cluster of six processes to try things on (ARGS="stop", "status", "--help")
	@python=$(NEWEST) && $$python -m scripts.cluster $(or $(ARGS),start)

postgres: ## a PostgreSQL to try things on (ARGS="stop", "status", "--help")
	@python=$(NEWEST) && $$python -m scripts.postgres $(or $(ARGS),start)

kafka: ## a Kafka broker to try things on; needs Java and Maven (ARGS="stop", "status")
	@python=$(NEWEST) && $$python -m scripts.kafka $(or $(ARGS),start)

docs: ## generate docs/settings.md from config/
	@python=$(NEWEST) && $$python scripts/settings_doc.py

lock: ## bring constraints.txt up to date with pyproject.toml
	@$(ENVIRONMENTS) --newest >/dev/null
	.cache/uv/bin/uv export --quiet --no-hashes --no-emit-project --all-groups --all-extras \
	  --no-annotate --no-header --output-file constraints.txt

clean: ## remove environments, caches and databases of the demo
	@for server in cluster postgres kafka; do \
	  test ! -e .cache/servers/$$server.json || $(MAKE) --no-print-directory $$server ARGS=stop; \
	done
	rm -rf .venv .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
