# Everything is brought into .local; see tools/setup.py for what, tools/pins.json for which.
PYTHON ?= python3
PG_CONFIG ?= $(CURDIR)/.local/postgresql/18/bin/pg_config
TOOL = $(PYTHON) tools

.DEFAULT_GOAL := help
.PHONY: help demo server psql stop install postgresql-test test test-pure test-server test-regress test-cluster \
	test-elsewhere test-older test-docs test-stress bench quality bench-search bench-memories bench-audit bench-store \
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

#:
#: Work on it
test: setup-for-tests ## all tests, then which passed
	@$(TOOL)/test.py all

test-pure: ## tests that need no PostgreSQL
	@$(TOOL)/setup.py onnxruntime models build
	@$(TOOL)/test.py pure

test-server: setup-for-tests ## tests of functions inside a server
	@$(TOOL)/test.py server

test-regress: setup-for-tests ## SQL sessions against their expected output
	@$(TOOL)/test.py regress

test-cluster: setup-for-tests ## tests on real servers: crash, standby, dump, upgrade
	@$(TOOL)/test.py cluster

test-elsewhere: setup-for-tests ## those again, with the extension and pgvector in other schemas
	@$(TOOL)/test.py elsewhere

test-older: setup-for-tests ## those again, on PostgreSQL 16
	@$(TOOL)/test.py older

test-docs: setup-for-tests ## the documentation's examples
	@$(TOOL)/test.py docs

test-stress: setup-for-tests ## random load of several roles: make test-stress SECONDS=180 SEED=7
	@STRESS_SECONDS=$(SECONDS) STRESS_SEED=$(SEED) $(TOOL)/test.py stress

bench: setup-for-tests ## measure the pure code, then SQL
	@$(TOOL)/install.py --pg-config $(CURDIR)/.local/postgresql-test/18/bin/pg_config
	@$(TOOL)/run.py cargo bench --no-default-features --bench pure
	@$(TOOL)/run.py cargo bench --no-default-features --features cluster --bench sql

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
	@$(TOOL)/run.py cargo bench --no-default-features --bench embedder
	@$(TOOL)/run.py cargo bench --no-default-features --features cluster --bench embedder_sql

lint: ## format, lints, licences and sources of the dependencies
	@$(TOOL)/setup.py postgresql build deny
	@$(TOOL)/run.py cargo fmt --check
	@$(TOOL)/run.py cargo clippy --all-targets --no-default-features -- -D warnings
	@$(TOOL)/run.py cargo clippy --all-targets --no-default-features --features "pg18 pg_test cluster" -- -D warnings
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
	@$(TOOL)/setup.py postgresql postgresql-test postgresql-16 onnxruntime models build-test

postgresql-test:
	@$(TOOL)/setup.py postgresql-test

stop-quietly:
	@if [ -d .local/server ]; then $(TOOL)/server.py stop; fi
