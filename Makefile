# `make demo`: see it work. `make test`: every check and test. Both set up everything they need in .uv and .venv first.
UV_VERSION := 0.13.8
UV := .uv/bin/uv
BIN := .venv/bin
# Every test that starts a program would compile what it imports anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo up test check bench pictures
setup: .venv/.synced

$(UV):
	python3 -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.synced: pyproject.toml uv.lock | $(UV)
	$(UV) sync --frozen --quiet --compile-bytecode --python python3
	touch $@

demo: setup
	$(BIN)/hl demo

up: setup
	$(BIN)/hl up

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/pyright

# More workers than cores, since some wait; with threads of polars' own each they would be in each other's way.
test: check
	POLARS_MAX_THREADS=1 $(BIN)/pytest -n 3 --dist worksteal

bench: setup
	$(BIN)/python -m hl_pipeline_tests.tools.bench

# The README's pictures, from the real UI; needs Chromium (Debian: apt install chromium).
pictures: setup
	$(BIN)/python -m hl_pipeline_tests.tools.take_pictures
