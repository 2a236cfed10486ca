# The one image of docker-compose.yml: the code location, the webserver and the daemon differ by their command alone.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1 \
    UV_PYTHON_DOWNLOADS=never \
    PATH=/app/.venv/bin:$PATH \
    DAGSTER_HOME=/var/lib/dagster \
    HL_HOME=/var/lib/hl \
    HL_SETTINGS_RESOLVED=1 \
    NUMBA_CACHE_DIR=/var/lib/hl/compiled

# A volume takes the owner of the directory that it is first mounted on.
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.8 \
    && useradd --uid 1000 --create-home hl \
    && install -d -o hl -g hl /var/lib/dagster /var/lib/dagster/storage /var/lib/hl /var/lib/hl/lake

WORKDIR /app
# Dependencies before the code, so that a change of the code does not fetch them again.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --frozen --no-dev --extra tracing --extra alerts --no-install-project
COPY hl_pipeline hl_pipeline
COPY api api
COPY docker docker
COPY dagster.yaml workspace.yaml ./
RUN uv sync --frozen --no-dev --extra tracing --extra alerts && cp dagster.yaml /var/lib/dagster/dagster.yaml

USER hl
CMD ["hl", "--help"]
