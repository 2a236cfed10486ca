# The one image of docker-compose.yml: its services differ by their command alone. Tags are pinned; raise them with the tests.
FROM python:3.11.14-slim-bookworm AS build

ENV UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never

RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.8

WORKDIR /app
# Dependencies before the code, so that a change of the code does not fetch them again.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev --extra tracing --extra alerts --extra celery --no-install-project
COPY hl_pipeline hl_pipeline
COPY api api
RUN uv sync --frozen --no-dev --extra tracing --extra alerts --extra celery

FROM python:3.11.14-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/app/.venv/bin:$PATH \
    DAGSTER_HOME=/var/lib/dagster \
    HL_HOME=/var/lib/hl \
    HL_SETTINGS_RESOLVED=1 \
    NUMBA_CACHE_DIR=/var/lib/hl/compiled

# A volume takes the owner of the directory that it is first mounted on.
RUN useradd --uid 1000 --create-home hl \
    && install -d -o hl -g hl /var/lib/dagster /var/lib/dagster/storage /var/lib/hl /var/lib/hl/lake

WORKDIR /app
# Without pip's and uv's caches, and without uv. Root owns the code, so the services cannot change it.
COPY --from=build /app /app
COPY docker docker
COPY dagster.yaml workspace.yaml ./
COPY dagster.yaml /var/lib/dagster/dagster.yaml

# By number, so that Kubernetes can check that it is not root. It is the user hl.
USER 1000
CMD ["hl", "--help"]
