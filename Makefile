# `make demo`: see it work. `make test`: every check and the tests that take minutes at most; docs/testing.md has all levels.
# Each target sets up everything it needs in .uv and .venv first.
UV_VERSION := 0.13.8
UV := .uv/bin/uv
BIN := .venv/bin
# More workers than cores, since some wait; with threads of polars' own each they would be in each other's way.
PYTEST := POLARS_MAX_THREADS=1 $(BIN)/pytest -n 3 --dist loadscope --no-loadscope-reorder
# A browser, what looks at the units of systemd, at the rules of Prometheus and at Compose's file, proxies, a broker, and
# networks for workers.
SYSTEM_PACKAGES := chromium systemd prometheus nginx-light caddy docker-compose redis-server iproute2
# Every test that starts a program would compile what it imports anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup system-packages demo up check lint docs reference quick types all-types unit test all-tests test-system reliability audit sbom bench bench-full bench-start bench-workers bench-compact bench-lake engines units dashboards pictures
setup: .venv/.synced

# Each says what it does before a silent minute; where there is nothing to do, it says nothing.
$(UV):
	@echo "Installing uv $(UV_VERSION) in .uv: a few seconds"
	@python3 -m venv .uv
	@.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.synced: pyproject.toml uv.lock | $(UV)
	@echo "Installing the packages of uv.lock in .venv, and compiling them: about a minute, the first time with a download"
	@$(UV) sync --frozen --quiet --compile-bytecode --python python3
	@$(BIN)/python -c "from hl_pipeline.formats.scan_fills import compile_scanners; compile_scanners()"
	@touch $@

demo: setup
	@echo "Making two days of made-up trades, and loading them in .hl-demo: about half a minute"
	@$(BIN)/hl demo

up: setup
	$(BIN)/hl up

# Format, lint, import contracts, types, and the packages: their known vulnerabilities, and a list of them.
check: setup lint all-types audit sbom

all-types: setup
	@echo "Checking the types: about a minute"
	@$(BIN)/pyright

lint: setup
	@echo "Checking the format, the code and the imports"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-logo
	@$(MAKE) --no-print-directory docs

# Known vulnerabilities of the locked packages, those of development too. Without a network it says that nothing was checked.
audit: setup
	@echo "Asking for known vulnerabilities: about a minute"
	@$(UV) export --frozen --quiet --all-extras --all-groups --no-emit-project --no-annotate --output-file dist/audit.txt >/dev/null
	@$(BIN)/python -m hl_pipeline_tests.tools.audit dist/audit.txt

# The software bill of materials: what an installation with all extras has, with the hash of each file.
sbom: setup
	@$(UV) export --frozen --quiet --no-dev --all-extras --format cyclonedx1.5 --output-file dist/sbom.cdx.json >/dev/null
	@$(BIN)/python -m hl_pipeline_tests.tools.check_sbom dist/sbom.cdx.json

# The docs site, in site/; a link or anchor that leads nowhere is an error. With --quiet no warning would be one.
docs: setup
	@echo "Building the docs: a few seconds"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The pages of docs/reference that the code describes.
reference: setup
	$(BIN)/python -m hl_pipeline_tests.tools.write_reference

# Within a minute, before each commit: the checks, but no types in the tests, and beside them the unit tests.
quick: setup
	$(MAKE) --jobs 2 --output-sync lint types unit

types: setup
	$(BIN)/pyright hl_pipeline api

unit: setup
	POLARS_MAX_THREADS=1 $(BIN)/pytest -m "not slow" --hypothesis-profile quick hl_pipeline_tests/unit

# The gate: the checks and all tests but the slow ones, property tests with few examples; about 5 minutes on 2 cores.
# The types begin beside what lint does on one core; the tests follow lint.
test: setup
	@$(MAKE) --no-print-directory --jobs 2 lint all-types all-tests

all-tests: setup
	@echo "Running the tests: a few minutes"
	@$(PYTEST) -m "not slow"

# Before an issue is resolved: the slow tests, and every property test with all its examples; about half an hour.
test-system: setup system-packages engines
	$(PYTEST) -m "slow or hypothesis or random" --hypothesis-profile full

# On demand: twenty times as many random cases and kills as in test-system, always the same ones; then the checks of
# docs/reliability.md, and a soak of half an hour. Two to three hours on 2 cores; a mount of a small disk needs root.
reliability: setup
	$(PYTEST) -m "hypothesis or random" --hypothesis-profile reliability
	POLARS_MAX_THREADS=1 $(BIN)/python -m hl_pipeline_tests.tools.reliability
	POLARS_MAX_THREADS=1 $(BIN)/python -m hl_pipeline_tests.tools.reliability soak

# On demand: the stages and the whole way, on generated objects.
bench: setup
	$(BIN)/python -m hl_pipeline_tests.tools.bench

# On demand: the same on a whole day, three runs each.
bench-full: setup
	$(BIN)/python -m hl_pipeline_tests.tools.bench --runs 3 --hours 24

# On demand: commands, runs of an empty day, and what many days behind them do, beside Dagster without us; five minutes.
bench-start: setup
	$(BIN)/python -m hl_pipeline_tests.tools.bench_start

# On demand: workers that share runs, that are killed, and that are cut off the network; an hour.
bench-workers: setup system-packages
	$(BIN)/python -m hl_pipeline_tests.tools.bench_workers

# On demand: the cost of compacting a day of ten million fills, and bytes per fill; ten minutes.
bench-compact: setup
	$(BIN)/python -m hl_pipeline_tests.tools.bench_compact

# On demand: a wallet's fills through the API from a compacted lake of 50 days and 50 million fills, on a disk and on S3.
bench-lake: setup
	$(BIN)/python -m hl_pipeline_tests.tools.bench_lake

# Other engines that read the lake, for the slow tests.
engines: setup
	@echo "Installing the engines of the slow tests, Spark among them: a minute or two, the first time with a download"
	@$(UV) sync --frozen --quiet --group engines

# What a level needs of the machine beyond Python; nothing is installed that is there already.
system-packages:
	@for name in chromium chromium-browser google-chrome; do \
		command -v $$name >/dev/null && command -v systemd-analyze >/dev/null && command -v promtool >/dev/null \
			&& command -v nginx >/dev/null && command -v caddy >/dev/null \
			&& command -v docker-compose >/dev/null \
			&& command -v redis-server >/dev/null && command -v ip >/dev/null && exit 0; \
	done; \
	apt-get install --yes --no-install-recommends $(SYSTEM_PACKAGES)

# The units of deploy/systemd, from the commands of `hl up`.
units: setup
	$(BIN)/python -m hl_pipeline_tests.tools.write_units

# The dashboards of deploy/monitoring.
dashboards: setup
	$(BIN)/python -m hl_pipeline_tests.tools.write_dashboards

# The README's pictures, from the real UI in Chromium.
pictures: setup system-packages
	$(BIN)/python -m hl_pipeline_tests.tools.take_pictures
