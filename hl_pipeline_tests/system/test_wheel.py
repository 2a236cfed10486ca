"""Protects installations without the repository: the wheel has every file that it needs, and its `hl demo` works."""

from __future__ import annotations

import sys
import sysconfig
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from hl_pipeline.ops.services import api_command
from hl_pipeline_tests.processes import PROJECT, free_port, run, users_environment
from hl_pipeline_tests.servers.refusing import Reply, refusing

_FRAMES = (("polars", "polars"), ("pandas", "pandas"), ("arrow", "pyarrow"))
_PACKAGES = ("api", "hl_client", "hl_pipeline")
_CLIENT = PROJECT / "hl_client"
# Of the client as a distribution of its own.
_NOT_IN_THE_PACKAGE = {"hl_client/pyproject.toml", "hl_client/README.md", "hl_client/LICENSE"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built without a network."""
    directory = tmp_path_factory.mktemp("wheel")
    _succeed([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)], PROJECT)
    [built] = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and from this one the libraries alone: not the repository."""
    environment = tmp_path_factory.mktemp("installed")
    _succeed([sys.executable, "-m", "venv", str(environment)], environment)
    python = environment / "bin" / "python"
    _succeed([str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--no-index", "--no-deps", str(wheel)], environment)
    libraries = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    # The .pth files of a directory that is added so are not read; one of them leads to the repository.
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def test_the_wheel_has_each_file_of_the_packages_and_what_dagster_reads(wheel: Path) -> None:
    files = {
        str(path.relative_to(PROJECT))
        for package in _PACKAGES
        for path in (PROJECT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    with zipfile.ZipFile(wheel) as content:
        names = {name for name in content.namelist() if ".dist-info/" not in name}
        texts = {name: content.read(f"hl_pipeline/ops/{name}").decode() for name in ("dagster.yaml", "workspace.yaml")}

    assert names == files - _NOT_IN_THE_PACKAGE | {"hl_pipeline/ops/dagster.yaml", "hl_pipeline/ops/workspace.yaml"}
    assert {
        "api/py.typed",
        "hl_client/py.typed",
        "hl_pipeline/py.typed",
        "hl_pipeline/warehouse/migrations/script.py.mako",
    } <= names
    assert texts == {name: (PROJECT / name).read_text() for name in texts}


def test_the_metadata_names_the_program_the_licence_and_the_libraries(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        [entry_points] = [name for name in content.namelist() if name.endswith(".dist-info/entry_points.txt")]
        metadata = Parser().parsestr(content.read(entry_points.replace("entry_points.txt", "METADATA")).decode())
        assert content.read(entry_points).decode().split() == ["[console_scripts]", "hl", "=", "hl_pipeline.cli.main:main"]

    assert (metadata["Name"], metadata["License-Expression"], metadata["License-File"]) == ("hl-pipeline", "MIT", "LICENSE")
    assert metadata["Requires-Python"] == "<3.15,>=3.11"
    libraries = metadata.get_all("Requires-Dist") or []
    assert [line for line in libraries if line.startswith("dagster<")] == ["dagster<1.14,>=1.13"]
    assert not [line for line in libraries if line.startswith(("pytest", "ruff", "hatchling"))]


@pytest.fixture(scope="module")
def client_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's own wheel, built without a network."""
    directory = tmp_path_factory.mktemp("client")
    _succeed([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)], _CLIENT)
    [built] = directory.glob("*.whl")
    return built


def test_the_clients_own_wheel_has_its_modules_and_needs_httpx_alone(client_wheel: Path) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(client_wheel) as content:
        names = {name for name in content.namelist() if ".dist-info/" not in name}
        [file] = [name for name in content.namelist() if name.endswith("METADATA")]
        [licence] = [content.read(name).decode() for name in content.namelist() if name.endswith("LICENSE")]
        metadata = Parser().parsestr(content.read(file).decode())

    assert names == {f"hl_client/{path.name}" for path in _CLIENT.iterdir() if path.suffix == ".py" or path.name == "py.typed"}
    assert licence == (PROJECT / "LICENSE").read_text()
    assert (metadata["Name"], metadata["Version"]) == ("hl-client", project["version"])
    needs = metadata.get_all("Requires-Dist") or []
    assert [line for line in needs if "extra ==" not in line] == [one for one in project["dependencies"] if one[:5] == "httpx"]


def test_the_client_works_alone_and_says_which_library_a_frame_needs(client_wheel: Path, tmp_path: Path) -> None:
    """In a process that finds nothing but the wheel, httpx and what httpx needs."""
    libraries = Path(sysconfig.get_path("purelib"))
    for name in ("httpx", "httpcore", "h11", "anyio", "idna", "certifi", "sniffio", "typing_extensions.py"):
        if (libraries / name).exists():
            (tmp_path / name).symlink_to(libraries / name)
    with refusing(Reply(200, {"twaps": [], "next_cursor": None, "coverage": []})) as server:
        code = (
            f"import sys; sys.path += [{str(client_wheel)!r}, {str(tmp_path)!r}]\n"
            "from hl_client import Client\n"
            f"twaps = Client({server.url!r}).twaps('0x1', '2025-11-03', '2025-11-03')\n"
            "print(twaps)\n"
            "for name in ('polars', 'pandas', 'arrow'):\n"
            "    try: getattr(twaps, f'to_{name}')()\n"
            "    except ImportError as error: print(error)\n"
        )
        shown = _succeed([sys.executable, "-I", "-S", "-c", code], tmp_path)

    assert shown.splitlines() == [
        "<0 twaps; complete>",
        *(f"to_{f}() needs {library}: pip install 'hl-client[{library}]'" for f, library in _FRAMES),
    ]


@pytest.mark.slow
def test_an_installation_finds_its_files_beside_its_code(installed: Path, tmp_path: Path) -> None:
    code = (
        "import api, hl_pipeline; from hl_pipeline.ops.installation import dagster_file as f; "
        "print(api.__file__, hl_pipeline.__file__, f('dagster.yaml'), f('workspace.yaml'), sep='\\n')"
    )

    found = [Path(line) for line in _succeed([str(installed / "python"), "-c", code], tmp_path).split()]

    assert len(found) == 4
    assert all(path.is_file() and path.is_relative_to(installed.parent) for path in found), found


def test_the_api_is_ours_where_the_user_has_an_api_too(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "__init__.py").write_text("raise SystemExit('the wrong api')")

    done = run(api_command("127.0.0.1", free_port()), users_environment(), tmp_path)

    assert (done.returncode, done.stdout.splitlines()) == (
        1,
        [
            "hl api: Value error, no database: set HL_API_DATABASE_URL or "
            "HL_DATABASE_URL to postgresql://user:password@host:5432/hl"
        ],
    )


@pytest.mark.slow  # 25 s of processor: two days through everything
def test_the_demo_works_in_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    shown = _succeed([str(installed / "hl"), "demo", "--first-day", "2025-09-01"], tmp_path, seconds=300)

    days = [line for line in shown.splitlines() if line.startswith(("2025-09-01  ", "2025-09-02  "))]
    assert [line.split()[1] for line in days] == ["whole", "whole"]
    assert (tmp_path / ".hl-demo" / "dagster" / "dagster.yaml").read_text() == (PROJECT / "dagster.yaml").read_text()


def _succeed(command: list[str], cwd: Path, seconds: float = 120) -> str:
    done = run(command, users_environment(), cwd, seconds)
    assert done.returncode == 0, done.stdout
    return done.stdout
