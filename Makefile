# Everything is brought into .local; see tools/setup.py for what, tools/pins.json for which.
PYTHON ?= python3
PG_CONFIG ?= $(CURDIR)/.local/postgresql/18/bin/pg_config
TOOL = $(PYTHON) tools

.DEFAULT_GOAL := help
.PHONY: help demo server psql stop install uninstall postgresql-test check test test-all test-stress bench quality bench-search bench-memories bench-audit bench-store \
	bench-pipeline bench-embedder example lint clean \
	distclean

help:
	@echo 'vector_tools: ranked retrieval inside PostgreSQL. Begin with `make demo`.'
	@awk -F ':.*## ' '/^#:/ { print substr($$0, 4) } /^[a-z-]+:.*## / { printf "  make %-16s%s\n", $$1, $$2 }' \
		$(firstword $(MAKEFILE_LIST))

#:
#: Try it
demo: server ## a server with example data, and a tour through its answers
	@$(PYTHON) examples/demo/run.py "$$($(TOOL)/server.py status)"

example: server ## a system built on it: make example NAME=domain_memories
	@$(PYTHON) examples/$(or $(NAME),domain_memories)/run.py "$$($(TOOL)/server.py status)"

server: ## build, install and start a server; the last line is how to connect
	@$(TOOL)/install.py
	@$(TOOL)/server.py start

psql: ## a session on that server
	@$(TOOL)/server.py psql

stop: ## stop that server
	@$(TOOL)/server.py stop

#:
#: Use it
install: ## into a PostgreSQL of yours: make install PG_CONFIG=/path/pg_config
	@$(TOOL)/install.py --pg-config "$(PG_CONFIG)" $(if $(filter extension,$(ONLY)),--only-extension)

uninstall: ## remove it from there, after DROP EXTENSION in each database: make uninstall PG_CONFIG=/path/pg_config
	@$(TOOL)/install.py --uninstall --pg-config "$(PG_CONFIG)"

#:
#: Work on it
check: ## format, lints and tests without PostgreSQL: before each commit
	@$(TOOL)/setup.py onnxruntime models
	@$(TOOL)/test.py check

test: setup-for-tests ## check, and tests on PostgreSQL: make test T='words of names' runs those alone
	@$(TOOL)/test.py $(STAGE) $(if $(T),-- $(T))

test-all: setup-for-tests ## every test, also with crashes, in other schemas, and on the oldest PostgreSQL
	@$(TOOL)/test.py all

test-stress: setup-for-tests ## random load of several roles: make test-stress SECONDS=180 SEED=7
	@STRESS_SECONDS=$(SECONDS) STRESS_SEED=$(SEED) $(TOOL)/test.py stress

bench: setup-for-tests ## measure the pure code, then SQL
	@$(TOOL)/install.py --pg-config $(CURDIR)/.local/postgresql-test/18/bin/pg_config
	@$(TOOL)/run.py cargo bench -p vector_tools_benches --bench pure
	@$(TOOL)/run.py cargo bench -p vector_tools_benches --bench sql

quality: ## ranking on collections with judgements: make quality COLLECTIONS="folder …"
	@$(TOOL)/install.py
	@$(PYTHON) pg_test/quality/ranking/run.py $(if $(PLOT),--plot $(PLOT)) $(COLLECTIONS)

bench-search: ## speed of searching a large table: make bench-search ROWS=1000000
	@$(TOOL)/install.py
	@$(PYTHON) benches/search/run.py --rows $(or $(ROWS),1000000) $(if $(PLOT),--plot $(PLOT))

bench-memories: ## what search_memories adds to hybrid_search
	@$(TOOL)/install.py
	@$(PYTHON) benches/memories/run.py

bench-audit: ## what auditing costs an INSERT
	@$(TOOL)/install.py
	@$(PYTHON) benches/audit/run.py

bench-store: ## speed of writing and searching a vector store
	@$(TOOL)/install.py
	@$(PYTHON) benches/store/run.py $(if $(QUICK),--quick)

bench-pipeline: ## what enable_search costs writers, and how fast its queue is embedded
	@$(TOOL)/install.py
	@$(PYTHON) benches/pipeline/run.py $(if $(QUICK),--quick)

bench-embedder: setup-for-tests ## the embedding process beside models in each session, alone and through SQL
	@$(TOOL)/install.py --pg-config $(CURDIR)/.local/postgresql-test/18/bin/pg_config
	@$(TOOL)/run.py cargo bench -p vector_tools_embedder --bench embedder
	@$(TOOL)/run.py cargo bench -p vector_tools_benches --bench embedder_sql

lint: ## format, lints, licences and sources of the dependencies
	@$(TOOL)/setup.py postgresql libclang deny
	@$(TOOL)/run.py cargo fmt --all --check
	@$(TOOL)/run.py cargo clippy --workspace --all-targets --features pg_test -- -D warnings
	@$(TOOL)/run.py cargo deny check bans licenses sources

#:
#: Tidy up
clean: ## remove what was built, keep what was downloaded
	rm -rf target .local/package

distclean: stop-quietly clean ## remove everything that make brought in, the server's data too
	rm -rf .local examples/*/node_modules

# Parts of the above.
.PHONY: setup-for-tests stop-quietly
setup-for-tests:
	@$(TOOL)/setup.py postgresql postgresql-test postgresql-16 onnxruntime models cargo-pgrx

postgresql-test:
	@$(TOOL)/setup.py postgresql-test

stop-quietly:
	@if [ -d .local/server ]; then $(TOOL)/server.py stop; fi
