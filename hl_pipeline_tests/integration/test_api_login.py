"""/login and /logout: what the session cookie opens, how it is protected, what ends it, and where the page leads."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Generator
from http.cookies import Morsel, SimpleCookie
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from itsdangerous import TimestampSigner

from hl_pipeline.warehouse.connect import connect
from hl_pipeline_tests.conftest import NewDatabase
from hl_pipeline_tests.servers.api import WALLET, Api, add, at, serving

KEY, OTHER_KEY = "hl_key-of-a-person", "hl_key-of-another"
DIGEST, OTHER_DIGEST = (hashlib.sha256(key.encode()).hexdigest() for key in (KEY, OTHER_KEY))
KEYS = f"anna.k:{DIGEST} bot:{OTHER_DIGEST}:exports"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FILLS = f"/api/v1/fills?wallet={WALLET}&start=2025-11-03&end=2025-11-03"
COOKIE = "hl_session"


@pytest.fixture(scope="module")
def url(new_database: NewDatabase) -> str:
    url = new_database()
    with connect(url, "test") as connection:
        add(connection, "fills", {"time": at("2025-11-03 12:00"), "wallet": WALLET, "tid": 1})
    return url


@pytest.fixture(scope="module")
def api(url: str) -> Generator[Api]:
    with serving(url, HL_API_KEYS=KEYS) as api:
        yield api


def _get(api: Api, path: str, session: str | None = None, **headers: str) -> requests.Response:
    cookies = {} if session is None else {COOKIE: session}
    return requests.get(api.url + path, headers={**HTML, **headers}, cookies=cookies, timeout=20, allow_redirects=False)


def _log_in(
    api: Api, key: str = KEY, *, prefix: str = "", headers: dict[str, str] | None = None, **form: str
) -> requests.Response:
    form = {"key": key, **form}
    return requests.post(f"{api.url}{prefix}/login", form, headers=headers, timeout=20, allow_redirects=False)


def _cookie(response: requests.Response) -> Morsel[str]:
    return SimpleCookie(response.headers["set-cookie"])[COOKIE]


@pytest.mark.slow
def test_a_browser_is_led_to_the_login_and_back(api: Api) -> None:
    browser = requests.Session()
    page = browser.get(f"{api.url}/docs?x=1&y=%2F", headers=HTML, timeout=20)
    assert (page.status_code, urlsplit(page.url).path) == (200, "/login")
    assert parse_qs(urlsplit(page.url).query) == {"next": ["/docs?x=1&y=%2F"]}
    [action], fields = re.findall(r'action="([^"]+)"', page.text), dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
    form = {**{name: value.replace("&amp;", "&") for name, value in fields.items()}, "key": KEY}
    docs = browser.post(api.url + action, form, headers=HTML, timeout=20)
    assert (docs.status_code, docs.url) == (200, f"{api.url}/docs?x=1&y=%2F")
    assert "swagger-ui" in docs.text
    # As the page asks: with the cookie, and not for HTML.
    for path in ("/openapi.json", FILLS, "/static-offline-docs/swagger-ui-bundle.js", "/metrics"):
        assert browser.get(api.url + path, timeout=20).status_code == 200, path
    assert browser.get(f"{api.url}{FILLS}&format=csv", timeout=20).status_code == 403
    out = browser.get(f"{api.url}/logout", timeout=20)
    assert (urlsplit(out.url).path, browser.cookies.get(COOKIE)) == ("/login", None)
    assert urlsplit(browser.get(f"{api.url}/docs", headers=HTML, timeout=20).url).path == "/login"


def test_the_page_needs_no_script_and_no_other_request(api: Api) -> None:
    page = _get(api, "/login")
    assert re.findall(r"<script|<link|<img|src=|@import|url\(", page.text) == []
    assert page.headers["cache-control"] == "no-store"
    [style] = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    policy = page.headers["content-security-policy"]
    assert "script-src" not in policy
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'self' 'sha256-{digest}'" in policy


@pytest.mark.parametrize(("scheme", "is_secure"), [(None, False), ("https", True)])
def test_the_cookie_is_kept_from_scripts_other_sites_and_plain_http(api: Api, scheme: str | None, is_secure: bool) -> None:
    response = _log_in(api, headers={} if scheme is None else {"X-Forwarded-Proto": scheme})
    cookie = _cookie(response)
    assert (response.status_code, response.headers["location"]) == (303, "/docs")
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "strict", "/")
    assert (bool(cookie["secure"]), cookie["domain"]) == (is_secure, "")
    assert 3600 <= int(cookie["max-age"]) <= 24 * 3600
    assert KEY not in str(response.headers)
    assert DIGEST not in str(response.headers)


def test_a_wrong_key_gets_the_page_again_and_no_cookie(api: Api) -> None:
    for key in ("hl_wrong", "", DIGEST, "é" * 100):
        response = _log_in(api, key, next="/docs?a=1")
        assert (response.status_code, "set-cookie" in response.headers) == (401, False)
        assert "This key is not known." in response.text
        assert 'name="next" value="/docs?a=1"' in response.text
    large = requests.post(f"{api.url}/login", data={"key": "x" * 100_000}, timeout=20)
    assert large.status_code == 413
    assert _log_in(api, f" {KEY}\n").status_code == 303


ELSEWHERE = [
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "javascript:x",
    "",
    "x",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_the_login_leads_to_no_other_site(api: Api, path: str) -> None:
    assert _log_in(api, next=path).headers["location"] == "/docs"
    page = requests.get(f"{api.url}/login", params={"next": path}, timeout=20)
    assert 'name="next" value="/docs"' in page.text


def test_what_is_asked_for_cannot_break_out_of_the_page(api: Api) -> None:
    page = requests.get(f"{api.url}/login", params={"next": '/x"><script>alert(1)</script>'}, timeout=20)
    assert "<script" not in page.text
    assert "/x&quot;&gt;&lt;script&gt;" in page.text
    assert "\n" not in _get(api, "/docs%0d%0aSet-Cookie:%20a=b").headers["location"]


def test_only_pages_redirect_and_only_without_a_key(api: Api) -> None:
    assert _get(api, FILLS, Accept="application/json").status_code == 401
    assert _get(api, FILLS, Accept="*/*").status_code == 401
    assert _get(api, "/docs", Authorization="Bearer wrong").status_code == 401
    assert requests.post(f"{api.url}/docs", headers=HTML, timeout=20).status_code == 401


@pytest.mark.parametrize(
    "changed",
    [lambda s: s[:-1] + ("A" if s[-1] != "A" else "Q"), lambda s: s.replace("anna.k", "bot"), lambda _: "anna.k", lambda _: ""],
)
def test_a_cookie_that_was_changed_opens_nothing(api: Api, changed: Any) -> None:
    session = _cookie(_log_in(api)).value
    assert _get(api, "/docs", session).status_code == 200
    assert _get(api, "/docs", changed(session)).status_code == 303


def test_a_session_ends_with_its_time(api: Api) -> None:
    def sign(age: int) -> str:
        signer = TimestampSigner(
            bytes.fromhex(DIGEST), salt="hl api session", key_derivation="hmac", digest_method=hashlib.sha256
        )
        with mock.patch.object(signer, "get_timestamp", return_value=int(time.time()) - age):
            return signer.sign("anna.k").decode()

    answers = [_get(api, "/docs", sign(age)).status_code for age in (0, 12 * 3600 - 60, 12 * 3600 + 60)]
    assert answers == [200, 200, 303]


def test_a_key_that_is_revoked_or_replaced_ends_its_sessions_alone(api: Api, url: str) -> None:
    anna, bot = (_cookie(_log_in(api, key)).value for key in (KEY, OTHER_KEY))
    with serving(url, HL_API_KEYS=KEYS) as restarted:
        assert [_get(restarted, "/docs", session).status_code for session in (anna, bot)] == [200, 200]
        assert _get(restarted, f"{FILLS}&format=csv", bot).status_code == 200
    with serving(url, HL_API_KEYS=f"bot:{OTHER_DIGEST}") as without:
        assert [_get(without, "/docs", session).status_code for session in (anna, bot)] == [303, 200]
        # Its scope is that of now.
        assert _get(without, f"{FILLS}&format=csv", bot).status_code == 403
    replaced = hashlib.sha256(b"another").hexdigest()
    with serving(url, HL_API_KEYS=f"anna.k:{replaced} bot:{OTHER_DIGEST}") as other:
        assert [_get(other, "/docs", session).status_code for session in (anna, bot)] == [303, 200]


def test_behind_a_prefix_the_login_stays_below_it(url: str) -> None:
    with serving(url, HL_API_KEYS=KEYS, HL_API_PATH_PREFIX="/hl") as api:
        assert _get(api, "/docs").headers["location"] == "/hl/login?next=%2Fhl%2Fdocs"
        assert 'action="/hl/login"' in _get(api, "/hl/login").text
        answer = _log_in(api, prefix="/hl")
        assert (answer.headers["location"], _cookie(answer)["path"]) == ("/hl/docs", "/hl")
        assert _get(api, "/hl/docs", _cookie(answer).value).status_code == 200
        assert _get(api, "/logout").headers["location"] == "/hl/login"
