"""A command imports only what it needs: each of these modules costs at least a tenth of a second of CPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SLOW = ("alembic", "boto3", "dagster", "polars", "psycopg", "pyarrow", "pydantic_settings", "requests", "sqlalchemy")
_RUN = """
import sys
from hl_pipeline.cli.main import main
sys.argv = ["hl", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
print(*(name for name in {slow} if name in sys.modules), sep=chr(10), file=sys.stderr)
"""


def _loaded_by(*arguments: str) -> set[str]:
    code = _RUN.format(slow=_SLOW)
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return {line for line in done.stderr.splitlines() if line in _SLOW}


@pytest.mark.parametrize("arguments", [["--help"], ["ingest", "--help"], ["--version"]])
def test_help_loads_no_driver_settings_or_dagster(arguments: list[str]) -> None:
    assert _loaded_by(*arguments) == set()
