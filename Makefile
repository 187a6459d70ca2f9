# PostgreSQL 18 is fetched into .local unless you choose otherwise:
#   make test PG=16                       another major version, 14 to 18
#   make test PG_CONFIG=/path/pg_config   an installed server

export PG PG_CONFIG

.DEFAULT_GOAL := help
.PHONY: help demo psql stop test test-all bench fmt clean-local

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile
	@sed -n 's/^# \{0,1\}//p' Makefile

demo: ## Build, start a private server and leave it running
	@scripts/demo

psql: ## Connect to the demo server
	@scripts/server psql demo --dbname=demo

stop: ## Stop the demo server
	@scripts/server stop demo

test: ## Run the whole suite on one PostgreSQL
	@scripts/test

test-all: ## Run the whole suite on PostgreSQL 14 to 18
	@for major in 14 15 16 17 18; do PG=$$major PG_CONFIG= scripts/test || exit 1; done

bench: ## Build for release and measure
	@scripts/bench

fmt: ## Format the code
	@cargo fmt --all

clean-local: ## Remove all that the harness fetched, and the servers' data
	@scripts/clean
