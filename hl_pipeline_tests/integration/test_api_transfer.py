"""What every answer has around it: compression, security headers, CORS, and the limits of requests, URLs and connections."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import re
import socket
from collections.abc import Generator
from pathlib import Path

import brotli
import psutil
import pyarrow.parquet as pq
import pytest
import requests
import zstandard

from api.limits import RequestLimit
from hl_pipeline.ops.services import Address, commands
from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.api import OTHER, WALLET, Api, add, at, make_day, serving, serving_process

KEY = "hl_some-key"
KEYS = f"bot:{hashlib.sha256(KEY.encode()).hexdigest()}"
FILLS = f"/api/v1/fills?wallet={WALLET}&start=2025-11-03&end=2025-11-03"
NONE = f"/api/v1/fills?wallet={OTHER}&start=2025-11-03&end=2025-11-03"
DECODERS = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
ORIGIN = "https://app.example.com"
ROWS = 2_000
_MANY = 300_000


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    with connect(url, "test") as connection:
        add(connection, "fills", *({"time": at("2025-11-03 12:00"), "wallet": WALLET, "tid": number} for number in range(ROWS)))
        add(connection, "fills_days", {"date": "2025-11-03"})
    return url


@pytest.fixture(scope="module")
def api(url: str) -> Generator[Api]:
    with serving(url) as api:
        yield api


def _raw(api: Api, path: str, encoding: str = "identity", method: str = "GET", **headers: str) -> tuple[requests.Response, bytes]:
    """An answer and its body as it came."""
    sent = {"Accept-Encoding": encoding, **headers}
    with requests.request(method, api.url + path, headers=sent, timeout=60, stream=True, allow_redirects=False) as response:
        return response, response.raw.read(decode_content=False)


@pytest.mark.parametrize("encoding", DECODERS)
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_long_answers_are_compressed_as_the_client_can_read_them(api: Api, encoding: str, kind: str) -> None:
    path = f"{FILLS}&limit={ROWS}&format={kind}"
    _, plain = _raw(api, path)
    _raw(api, path, encoding)
    # The second one of JSON comes from memory.
    response, body = _raw(api, path, encoding)
    assert (response.status_code, response.headers["content-encoding"]) == (200, encoding)
    assert "Accept-Encoding" in response.headers["vary"]
    assert DECODERS[encoding](body) == plain
    assert len(body) < len(plain) / 4
    if kind == "csv":
        assert len([*csv.DictReader(io.StringIO(plain.decode()))]) == ROWS
        assert response.headers["transfer-encoding"] == "chunked"
        assert not {"content-length"} & {name.lower() for name in response.headers}
    else:
        assert response.headers["content-length"] == str(len(body))
        head, nothing = _raw(api, path, encoding, "HEAD")
        assert nothing == b""
        of_each = {"date": "", "x-request-id": ""}
        assert {**head.headers, **of_each} == {**response.headers, **of_each}
        # The ETag is weak, so it is that of each encoding.
        unchanged, nothing = _raw(api, path, encoding, **{"If-None-Match": response.headers["etag"]})
        assert (unchanged.status_code, nothing, "content-encoding" in unchanged.headers) == (304, b"", False)
        assert _raw(api, path)[0].headers["etag"] == response.headers["etag"]


def test_what_would_not_get_smaller_is_sent_as_it_is(api: Api) -> None:
    everything = "zstd, br, gzip"
    response, body = _raw(api, f"{FILLS}&format=parquet", everything)
    assert "content-encoding" not in response.headers
    assert pq.read_table(io.BytesIO(body)).num_rows == ROWS
    response, body = _raw(api, NONE, everything)
    assert ("content-encoding" in response.headers, response.headers["content-length"]) == (False, str(len(body)))
    assert len(body) < 1000
    assert _raw(api, FILLS, everything)[0].headers["content-encoding"] == "zstd"
    assert "content-encoding" not in _raw(api, FILLS, "deflate, zstd;q=0")[0].headers


def test_the_length_of_a_file_is_not_made_up_for_head(api: Api) -> None:
    for kind in ("csv", "parquet"):
        head, body = _raw(api, f"{FILLS}&format={kind}", method="HEAD")
        assert (head.status_code, body, head.headers.get("content-length")) == (200, b"", None)
        assert head.headers["content-disposition"].endswith(f'.{kind}"')


@pytest.mark.slow
def test_a_compressed_export_of_many_rows_stays_small_in_memory(new_database: NewDatabase, tmp_path: Path) -> None:
    url = new_database()
    with connect(url, "test") as connection:
        make_day(connection, at("2025-11-03 00:00").date())
        connection.execute(
            "INSERT INTO hl.fills (time, coin, wallet, side, px, sz, object_id, tid, oid) SELECT '2025-11-03 12:00+00', 'SOL', "
            "%s, 'B', random() * 1000, random(), 3000000, n, n FROM generate_series(1, %s) n",
            [WALLET, _MANY],
        )
    with serving_process(url, tmp_path) as api:
        process = psutil.Process(api.program.process.pid)
        _raw(api, f"{FILLS}&format=csv&limit=10", "zstd")
        before = process.memory_info().rss
        most, length = 0, 0
        with requests.get(
            f"{api.url}{FILLS}&format=csv", headers={"Accept-Encoding": "zstd"}, timeout=300, stream=True
        ) as response:
            reader = zstandard.ZstdDecompressor().decompressobj()
            assert response.headers["content-encoding"] == "zstd"
            for part in iter(lambda: response.raw.read(1 << 18, decode_content=False), b""):
                length += reader.decompress(part).count(b"\n")
                most = max(most, process.memory_info().rss)
        assert length == _MANY + 1
        assert most - before < 30_000_000


def _all_kinds_of_answers(api: Api) -> list[requests.Response]:
    paths = [
        "/",
        "/healthz",
        "/metrics",
        "/docs",
        "/openapi.json",
        FILLS,
        f"{FILLS}&format=csv",
        "/api/v1/fills",
        "/none",
        "/api/v1/twaps/",
    ]
    answers = [_raw(api, path)[0] for path in paths]
    answers += [_raw(api, FILLS, method=method)[0] for method in ("HEAD", "POST", "OPTIONS")]
    answers.append(_raw(api, FILLS, **{"If-None-Match": "*"})[0])
    answers.append(_raw(api, f"/?x={'x' * 9000}")[0])
    assert {answer.status_code for answer in answers} >= {200, 304, 307, 404, 405, 414, 422}
    return answers


def test_every_answer_tells_browsers_what_it_may_do(api: Api, url: str) -> None:
    with serving(url, HL_API_KEYS=KEYS, HL_API_CORS_ORIGINS=ORIGIN) as closed:
        refused = [_raw(closed, path)[0] for path in ("/", "/docs", "/login", "/metrics")]
        preflight = _raw(closed, FILLS, method="OPTIONS", Origin=ORIGIN, **{"Access-Control-Request-Method": "GET"})[0]
        for answer in [*_all_kinds_of_answers(api), *refused, preflight]:
            about = (answer.url, answer.status_code)
            assert answer.headers["x-content-type-options"] == "nosniff", about
            assert answer.headers["referrer-policy"] == "no-referrer", about
            assert answer.headers["x-frame-options"] == "DENY", about
            assert answer.headers["content-security-policy"].startswith("default-src 'self'; "), about
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], about
            assert "strict-transport-security" not in answer.headers, about


def test_https_is_asked_for_only_where_there_is_https(api: Api) -> None:
    assert _raw(api, "/", **{"X-Forwarded-Proto": "https"})[0].headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in _raw(api, "/", **{"X-Forwarded-Proto": "http"})[0].headers


def test_an_error_that_nobody_foresaw_has_the_headers_and_tells_nothing(database_url: str) -> None:
    with connect(database_url, "test") as connection:
        # An operator that does not exist is no error that the API knows.
        connection.execute("ALTER TABLE hl.candles ALTER COLUMN open TYPE boolean USING true")
    with serving(database_url) as api:
        answer, body = _raw(api, "/api/v1/candles?coin=SOL&start=2025-11-03&end=2025-11-03", **{"X-Forwarded-Proto": "https"})
    assert (answer.status_code, body) == (500, b'{"detail":"internal error; the log of the API has the reason"}')
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert {"content-security-policy", "strict-transport-security"} <= {name.lower() for name in answer.headers}


def test_the_page_of_the_api_may_run_its_own_script_alone(api: Api) -> None:
    page, body = _raw(api, "/docs")
    policy = dict(part.split(" ", 1) for part in page.headers["content-security-policy"].split("; "))
    scripts = re.findall(r"<script>(.*?)</script>", body.decode(), re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert len(digests) == 1
    assert policy["script-src"] == f"'self' 'sha256-{digests[0]}'"
    assert "script-src" not in _raw(api, "/")[0].headers["content-security-policy"]


def test_pages_of_other_origins_may_ask_only_if_they_are_named(api: Api, url: str) -> None:
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    assert "access-control-allow-origin" not in _raw(api, FILLS, Origin=ORIGIN)[0].headers
    with serving(url, HL_API_KEYS=KEYS, HL_API_CORS_ORIGINS=f"{ORIGIN} http://localhost:3000") as named:
        preflight = _raw(named, FILLS, method="OPTIONS", Origin=ORIGIN, **asks)[0]
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        answer = _raw(named, FILLS, Origin=ORIGIN, Authorization=f"Bearer {KEY}")[0]
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
        assert {"ETag", "X-Coverage"} <= set(answer.headers["access-control-expose-headers"].split(", "))
        assert "access-control-allow-credentials" not in answer.headers
        assert "Origin" in answer.headers["vary"]
        # A page can read why it was refused.
        refused = _raw(named, FILLS, Origin=ORIGIN)[0]
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, ORIGIN)
        for other in ("https://evil.example", "http://app.example.com", f"{ORIGIN}.evil.example"):
            assert "access-control-allow-origin" not in _raw(named, FILLS, Origin=other, Authorization=f"Bearer {KEY}")[0].headers
    with serving(url, HL_API_CORS_ORIGINS="*") as every:
        assert _raw(every, FILLS, Origin=ORIGIN)[0].headers["access-control-allow-origin"] == "*"


def test_a_key_and_an_address_have_each_so_many_requests_a_minute(url: str) -> None:
    def statuses(count: int, path: str = "/", **headers: str) -> list[int]:
        return [_raw(api, path, **headers)[0].status_code for _ in range(count)]

    with serving(url, HL_API_KEYS=KEYS, HL_API_REQUESTS_PER_MINUTE="3") as api:
        key = {"Authorization": f"Bearer {KEY}"}
        assert statuses(5, **key) == [200] * 3 + [429] * 2
        refused, body = _raw(api, "/", **key)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert b"more than 3 requests in a minute from key bot; try again in " in body
        assert statuses(2, "/healthz", **key) == [200, 200]
        assert statuses(2, "/metrics", **key) == [200, 200]
        assert statuses(1, "/api/v1/nothing", **key) == [429]
        counted = _raw(api, "/metrics", **key)[1].decode()
        # Three of "/": two, and the one whose text was read.
        assert '{method="GET",route="/",status="429"} 3.0' in counted
        assert '{method="GET",route="none",status="429"} 1.0' in counted
        assert statuses(1, f"/api/v1/twaps/{'7' * 5}") == [401]
        counted = _raw(api, "/metrics", **key)[1].decode()
        assert '{method="GET",route="/api/v1/twaps/{twap_id}",status="401"} 1.0' in counted
        # Without a key: those that a proxy forwards are counted by their address, this machine's own are not.
        assert statuses(5, **{"X-Forwarded-For": "198.51.100.7"}) == [401] * 3 + [429] * 2
        assert statuses(1, **{"X-Forwarded-For": "198.51.100.8"}) == [401]
        assert statuses(5) == [401] * 5
        # Neither is who writes the header of a proxy.
        assert statuses(1, **{"X-Forwarded-For": "127.0.0.1, 198.51.100.7"}) == [429]
        # One network of IPv6 belongs to one client.
        networks = [f"2001:db8:0:1::{number:x}" for number in range(4)] + ["2001:db8:0:2::1"]
        assert [statuses(1, **{"X-Forwarded-For": one})[0] for one in networks] == [401, 401, 401, 429, 401]
    with serving(url, HL_API_REQUESTS_PER_MINUTE="0") as api:
        assert set(statuses(20, **{"X-Forwarded-For": "198.51.100.7"})) == {200}


def test_no_number_of_addresses_fills_the_memory() -> None:
    limit = RequestLimit(1)
    visitors = [f"address 10.{number >> 16}.{number >> 8 & 255}.{number & 255}" for number in range(20_000)]
    assert [limit.refuse(visitor) for visitor in visitors] == [None] * len(visitors)
    assert limit.count_visitors() == 10_000
    # Each has a count of its own: the last one has used its request, one that was forgotten has it again.
    assert limit.refuse(visitors[-1]) is not None
    assert limit.refuse(visitors[0]) is None


def test_a_url_that_is_too_long_is_refused_before_it_is_read(api: Api) -> None:
    path = f"/api/v1/fills?coin={'x' * 7900}"
    assert _raw(api, path)[0].status_code == 422
    answer, body = _raw(api, path + "x" * 200)
    assert (answer.status_code, body) == (414, b'{"detail":"the URL must be at most 8,000 bytes"}')


def test_connections_beyond_the_limit_are_answered_503(url: str, tmp_path: Path) -> None:
    command = commands(Address(3000), Address(8000))["api"]
    assert command[command.index("--limit-concurrency") + 1] == "500"
    with serving_process(url, tmp_path, "--limit-concurrency", "5") as api:
        port = int(api.url.rsplit(":", 1)[1])
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        try:
            wait_until(lambda: _raw(api, "/healthz")[0].status_code == 503, 10, "no further connection is answered")
        finally:
            for connection in idle:
                connection.close()
        wait_until(lambda: _raw(api, "/healthz")[0].status_code == 200, 10, "connections are answered again")


@pytest.mark.slow
def test_no_secret_is_in_an_answer_or_in_what_the_process_writes(url: str, tmp_path: Path) -> None:
    """Marked secrets are in no answer and in nothing that the process writes, at its most talkative."""
    key, token, digest = "hl_marked-key-1", "marked-token-of-metrics", hashlib.sha256(b"hl_marked-key-1").hexdigest()
    wrong = "hl_marked-wrong-key"
    headers = [
        {},
        *({"Authorization": f"Bearer {one}", "Accept": "text/html, */*"} for one in (key, token, wrong)),
        {"X-API-Key": wrong},
    ]
    variables = {"HL_API_KEYS": f"marked:{digest}:exports", "HL_API_METRICS_TOKEN": token}
    with connect(url, "test") as connection:
        connection.execute("ALTER TABLE hl.candles ALTER COLUMN open TYPE boolean USING true")
    said: list[str] = []
    with serving_process(url, tmp_path, "--log-level", "trace", "--access-log", **variables) as api:
        crash = "/api/v1/candles?coin=SOL&start=2025-11-03&end=2025-11-03"
        for path in [
            "/",
            "/docs",
            "/openapi.json",
            "/metrics",
            "/login",
            "/none",
            FILLS,
            f"{FILLS}&format=csv",
            "/api/v1/fills",
            crash,
        ]:
            for one in headers:
                response, body = _raw(api, path, **one)
                said.append(f"{response.headers}{body.decode()}")
        for given in (key, wrong):
            answer = requests.post(f"{api.url}/login", {"key": given}, timeout=20, allow_redirects=False)
            said.append(f"{answer.status_code} {answer.headers} {answer.text}")
        output = api.program.output
    assert "Traceback" in output
    assert "303" in "".join(said)
    for secret in (key, token, wrong, digest):
        assert secret not in output
        assert [text for text in said if secret in text] == []
    # It would be found.
    assert "GET /api/v1/candles" in output
