"""The proxies of deploy/proxy work as they stand before a real `hl up`, and docs/security.md shows their text."""

from __future__ import annotations

import base64
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from hl_pipeline_tests.integration.test_api_transfer import KEY, KEYS
from hl_pipeline_tests.processes import PROJECT, Program, free_port, kill_all, program, started, users_environment, wait_until
from hl_pipeline_tests.services import processes_of

_PROXY = PROJECT / "deploy" / "proxy"
_FILES = {"nginx": "nginx.conf", "caddy": "Caddyfile"}
_PASSWORD = "a password: with a colon"
_LOGIN = ("admin", _PASSWORD)
_NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/hl-pipeline.conf;
}}
"""
_CADDY = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"


@pytest.fixture(scope="module")
def ports() -> Generator[tuple[int, int]]:
    """The ports of the UI and of the API of a running `hl up`, with the prefixes of the files."""
    ui, api = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="hl-e2e-") as name:
        directory = Path(name)
        (directory / "bucket").mkdir()
        settings = {"HL_HOME": "home", "HL_NODE_DATA_URL": "bucket", "HL_TWAP_DATA_URL": "none", "HL_API_KEYS": KEYS}
        (directory / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        of_files = ["--path-prefix", "/dagster", "--api-path-prefix", "/hl"]
        command = [program("hl"), "up", *of_files, "--port", str(ui), "--api-port", str(api)]
        with started(command, users_environment(), directory, directory / "up.log") as up:
            try:
                wait_until(lambda: up.answers(f"http://127.0.0.1:{ui}/dagster/server_info"), 240, "the UI answers")
                wait_until(lambda: up.answers(f"http://127.0.0.1:{api}/healthz"), 60, "the API answers")
                yield ui, api
            finally:
                kill_all(processes_of(directory / "home"))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    directory = tmp_path_factory.mktemp("certificate")
    files = directory / "localhost.pem", directory / "localhost.key"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *names, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


@pytest.mark.slow
@pytest.mark.parametrize("name", [*_FILES])
def test_a_proxy_asks_for_a_password_before_the_ui_and_leaves_the_api_to_its_keys(
    name: str, ports: tuple[int, int], certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}")
    with _proxy(name, ports, certificate, tmp_path) as base, requests.Session() as session:
        session.verify = str(certificate[0])
        # Otherwise REQUESTS_CA_BUNDLE would come before it.
        session.trust_env = False

        # The UI: nothing without the password; with it the page, its scripts, GraphQL and the WebSocket of its subscriptions.
        for path in ("/dagster", "/dagster/server_info", "/dagster/graphql"):
            refused = session.get(base + path, timeout=30)
            assert (refused.status_code, refused.headers["www-authenticate"].split()[0]) == (401, "Basic"), path
        assert session.get(f"{base}/dagster/server_info", auth=("admin", "wrong"), timeout=30).status_code == 401
        page = session.get(f"{base}/dagster/", auth=_LOGIN, timeout=30)
        [script, *_] = re.findall(r'src="(/dagster/[^"]+\.js)"', page.text)
        assert session.get(base + script, auth=_LOGIN, timeout=30).ok
        query = {"query": "{ version }"}
        assert session.post(f"{base}/dagster/graphql", json=query, timeout=30).status_code == 401
        answer = session.post(f"{base}/dagster/graphql", json=query, auth=_LOGIN, timeout=30).json()
        assert re.fullmatch(r"\d+\.\d+\.\d+", answer["data"]["version"])
        with pytest.raises(InvalidStatus, match="401"):
            _greet(base, certificate[0], {})
        password = base64.b64encode(":".join(_LOGIN).encode()).decode()
        assert "connection_ack" in _greet(base, certificate[0], {"Authorization": f"Basic {password}"})

        # The API: no password, but a key; it knows its prefix, and that the client speaks HTTPS.
        assert session.get(f"{base}/hl/healthz", timeout=30).json()["status"] == "healthy"
        assert session.get(f"{base}/hl/", timeout=30).status_code == 401
        service = session.get(f"{base}/hl/", headers={"X-API-Key": KEY}, timeout=30)
        assert service.json()["docs"] == "/hl/docs"
        assert "max-age" in service.headers["strict-transport-security"]
        entered = session.post(f"{base}/hl/login", data={"key": KEY}, allow_redirects=False, timeout=30)
        assert "; Secure" in entered.headers["set-cookie"]
        assert session.get(f"{base}/hl/docs", headers={"Accept": "text/html"}, timeout=30).url == f"{base}/hl/docs"
        # What the files do not name is nowhere.
        assert session.get(f"{base}/graphql", auth=_LOGIN, timeout=30).text.count("data") == 0


def test_the_page_on_security_shows_the_files() -> None:
    page = (PROJECT / "docs" / "security.md").read_text()
    for language, name in {"nginx": "nginx.conf", "caddy": "Caddyfile"}.items():
        [block] = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
        assert block == (_PROXY / name).read_text()


@contextmanager
def _proxy(name: str, ports: tuple[int, int], certificate: tuple[Path, Path], directory: Path) -> Generator[str]:
    """Run the proxy with its file; only ports, the name of the host and paths of files differ. Yields its address."""
    port = free_port()
    base = f"https://localhost:{port}"
    text = (_PROXY / _FILES[name]).read_text()
    changes = {"127.0.0.1:3000": f"127.0.0.1:{ports[0]}", "127.0.0.1:8000": f"127.0.0.1:{ports[1]}"}
    if name == "nginx":
        hashed = subprocess.run(["openssl", "passwd", "-apr1", _PASSWORD], check=True, capture_output=True, text=True).stdout
        (directory / "htpasswd").write_text(f"admin:{hashed}")
        changes |= {"listen 443 ssl": f"listen 127.0.0.1:{port} ssl", "data.example.com;": "localhost;"}
        changes |= {"/etc/nginx/dagster.htpasswd;": f"{directory}/htpasswd;"}
        changes |= {
            f"/etc/ssl/data.example.com.{kind};": f"{file};" for kind, file in zip(("pem", "key"), certificate, strict=True)
        }
        command, variables = ["nginx", "-e", "stderr", "-c", str(directory / "main.conf")], {}
    else:
        hashing = ["caddy", "hash-password", "--plaintext", _PASSWORD]
        hashed = subprocess.run(hashing, check=True, capture_output=True, text=True).stdout.strip()
        changes |= {"\ndata.example.com {": f"\n{_CADDY}{base} {{\n\ttls {certificate[0]} {certificate[1]}"}
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(directory / "hl-pipeline.conf")]
        variables = {"DAGSTER_PASSWORD_HASH": hashed, "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    (directory / "hl-pipeline.conf").write_text(text)
    # As root, its workers would be somebody who may not read the files of a test.
    user = "user root;" if Path("/root").owner() and Path.home() == Path("/root") else ""
    (directory / "main.conf").write_text(_NGINX.format(directory=directory, user=user))
    with started(command, users_environment(**variables), directory, directory / "proxy.log") as running:
        wait_until(lambda: _is_up(running, f"{base}/hl/healthz", certificate[0]), 30, "the proxy answers")
        yield base


def _is_up(running: Program, url: str, certificate: Path) -> bool:
    assert running.process.poll() is None, running.output
    try:
        return requests.get(url, verify=str(certificate), timeout=5).ok
    except requests.RequestException:
        return False


def _greet(base: str, certificate: Path, headers: dict[str, str]) -> str:
    """Open the UI's WebSocket as its pages do. Returns the first answer."""
    url = base.replace("https://", "wss://") + "/dagster/graphql"
    trusted = ssl.create_default_context(cafile=str(certificate))
    protocols = [Subprotocol("graphql-ws")]
    with connect(url, ssl=trusted, subprotocols=protocols, additional_headers=headers, open_timeout=30) as socket:
        socket.send('{"type": "connection_init", "payload": {}}')
        return str(socket.recv(30))
