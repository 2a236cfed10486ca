"""`make audit` fails on a vulnerability that nobody accepted, and takes no silence for safety; `make sbom` has what is locked."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hl_pipeline_tests.processes import PROJECT
from hl_pipeline_tests.tools import audit, check_sbom

pytestmark = pytest.mark.slow
_HASH = "--hash=sha256:" + "1" * 64
_FOUND = "GHSA-test-aaaa-0001"
_KNOWN: dict[str, str] = {"jinja2": "GHSA-test-aaaa-0000", "lz4": _FOUND}


@contextmanager
def _serving(known: dict[str, str]) -> Generator[str]:
    """A service with OSV's API, which knows one vulnerability of each of these packages. Yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]
            name = asked["name"]
            affected = [{"package": asked, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}]}]
            found = {"vulns": [{"id": known[name], "aliases": ["CVE-2026-0001"], "affected": affected}]} if name in known else {}
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


def _audit(directory: Path, url: str, accepted: str = "") -> int:
    requirements, toml = directory / "requirements.txt", directory / "accepted.toml"
    requirements.write_text(f"lz4==4.4.5 {_HASH}\norjson==3.10.0 {_HASH}\n")
    toml.write_text(f"[tool.audit.accepted]\n{accepted}\n")
    return audit.main([str(requirements), "--osv-url", url, "--accepted", str(toml)])


def test_a_vulnerability_fails_until_it_is_accepted_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _serving(_KNOWN) as url:
        assert _audit(tmp_path, url) == 1
        said = capsys.readouterr().out
        assert f"lz4 4.4.5: CVE-2026-0001, {_FOUND}; fixed in 99.1\n1 vulnerabilities to act on; 0 accepted" in said

        for name in (_FOUND, "CVE-2026-0001"):
            assert _audit(tmp_path, url, f'{name} = "only if frames come from strangers"') == 0
            assert f"lz4 4.4.5: CVE-2026-0001, {_FOUND}; accepted: only if frames come from strangers" in capsys.readouterr().out

        with pytest.raises(SystemExit, match=f"accepted: {_FOUND} needs a reason"):
            _audit(tmp_path, url, f'{_FOUND} = " "')


def test_an_acceptance_that_nothing_needs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _serving({"jinja2": "GHSA-test-aaaa-0000"}) as url:
        assert _audit(tmp_path, url, f'{_FOUND} = "a reason"') == 0
    assert f"warning: {_FOUND} is accepted in pyproject.toml, but nothing has it any more" in capsys.readouterr().out


def test_a_service_that_is_away_or_knows_nothing_has_checked_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _audit(tmp_path, "http://127.0.0.1:1/v1/query") == 0
    away = capsys.readouterr().out
    with _serving({"lz4": _FOUND}) as url:
        assert _audit(tmp_path, url) == 0
    assert away.startswith(f"{audit.NOT_CHECKED}\n  osv: "), away
    assert "Connection refused" in away
    assert capsys.readouterr().out == f"{audit.NOT_CHECKED}\n  osv: it knows no vulnerability of jinja2 2.10\n"


def test_a_list_of_packages_is_valid_and_lacks_none_of_the_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packages = [{"type": "library", "name": name, "version": version} for name, version in sorted(check_sbom.read_shipped())]
    assert {"dagster", "psycopg", "botocore", "apprise", "opentelemetry-sdk"} < {package["name"] for package in packages}
    assert not {"pytest", "moto", "ruff", "pip-audit"} & {package["name"] for package in packages}
    document = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": packages}
    file = tmp_path / "sbom.cdx.json"

    file.write_text(json.dumps(document))
    check_sbom.main(file)
    assert capsys.readouterr().out == f"{file}: {len(packages)} packages, CycloneDX 1.5, valid\n"

    file.write_text(json.dumps({**document, "components": packages[1:]}))
    with pytest.raises(SystemExit, match=f"lacks .*'{packages[0]['name']}'"):
        check_sbom.main(file)
    file.write_text(json.dumps({**document, "components": [{**packages[0], "type": "nonsense"}]}))
    with pytest.raises(SystemExit, match=r"is not valid CycloneDX 1\.5"):
        check_sbom.main(file)


def test_every_accepted_vulnerability_has_a_reason(tmp_path: Path) -> None:
    assert all(reason.strip() for reason in audit.read_accepted(PROJECT / "pyproject.toml").values())
    file = tmp_path / "pyproject.toml"
    file.write_text('[tool.audit.accepted]\n"GHSA-1" = "only on Windows"\n')
    assert audit.read_accepted(file) == {"GHSA-1": "only on Windows"}
    file.write_text('[tool.audit.accepted]\n"GHSA-1" = " "\n')
    with pytest.raises(SystemExit, match="GHSA-1 needs a reason"):
        audit.read_accepted(file)
