"""/login and /docs in a headless Chromium: the page works under the security policy that the API sends."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import psycopg
import pytest

from hl_pipeline_tests.processes import wait_until
from hl_pipeline_tests.servers.api import WALLET, add, at, serving
from hl_pipeline_tests.tools.take_pictures import browsing, find_browser

pytestmark = pytest.mark.slow

_BROWSER = find_browser()
KEY = "hl_some-key"
# What the policy of a page keeps from running or loading is noted in it.
_NOTE = """
    window.refused = [];
    const note = event => window.refused.push(`${event.violatedDirective} ${event.blockedURI}`);
    document.addEventListener("securitypolicyviolation", note);
"""


@pytest.mark.skipif(_BROWSER is None, reason="needs a Chromium")
def test_a_person_logs_in_and_sends_a_request_from_the_page(
    connection: psycopg.Connection, database_url: str, tmp_path: Path
) -> None:
    assert _BROWSER is not None
    add(connection, "fills", {"time": at("2025-11-03 12:00"), "wallet": WALLET, "tid": 1})
    add(connection, "fills_days", {"date": "2025-11-03"})
    keys = f"anna:{hashlib.sha256(KEY.encode()).hexdigest()}"
    with serving(database_url, HL_API_KEYS=keys) as api, browsing(_BROWSER, tmp_path) as page:
        page.call("Page.addScriptToEvaluateOnNewDocument", source=_NOTE)
        page.open(f"{api.url}/docs")
        assert page.evaluate("location.pathname") == "/login"
        assert page.evaluate("getComputedStyle(document.querySelector('input[name=key]')).display") != "inline"
        page.evaluate(f"document.querySelector('input[name=key]').value = {json.dumps(KEY)}")
        page.evaluate("document.querySelector('form').requestSubmit()")
        wait_until(lambda: page.evaluate("location.pathname") == "/docs", 30, "the page is there")
        wait_until(lambda: page.says("/api/v1/candles"), 60, "the page lists the paths")
        block = "document.querySelector('[id$=\"list_fills_api_v1_fills_get\"]')"
        page.evaluate(f"{block}.querySelector('button').click()")
        for name in ("try-out__btn", "execute"):
            wait_until(lambda name=name: page.evaluate(f"!!{block}.querySelector('.{name}')"), 30, f"there is {name}")
            page.evaluate(f"{block}.querySelector('.{name}').click()")
        wait_until(lambda: page.says('"tid": 1'), 30, "the answer has the fill")
        assert page.evaluate("window.refused") == []
        # A script that is not the page's own does not run.
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
        assert page.evaluate("window.ran") is None
        assert len(page.evaluate("window.refused")) == 1
