"""HL_API_KEYS and its neighbours: what is read, what is refused by name, and that no refusal shows a secret."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from api.access import is_loopback
from api.keys import find_key, parse_keys
from api.settings import ApiSettings
from hl_pipeline_tests.cli import run_in_process

A, B = hashlib.sha256(b"a").hexdigest(), hashlib.sha256(b"b").hexdigest()


def test_entries_are_separated_by_commas_or_whitespace() -> None:
    keys = parse_keys(f"bot:{A},\n desk.1:{B.upper()}:exports ")
    assert [(key.name, key.digest.hex(), key.may_export) for key in keys] == [("bot", A, False), ("desk.1", B, True)]
    assert [getattr(find_key(keys, given), "name", None) for given in ("a", "b", A, "", "é")] == [
        "bot",
        "desk.1",
        None,
        None,
        None,
    ]
    assert A not in repr(keys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (" , ", "is empty"),
        ("hl_secret-word", "entry 1 is not complete"),
        (f"bot:{A} hl_secret-word", "entry 2 is not complete"),
        (f":{A}", "entry 1: the name must be"),
        (f"secret word:{A}", "entry 1 is not complete"),
        (f"b/secret-word:{A}", "entry 1: the name must be"),
        ("bot:hl_secret-word", "bot must have the SHA-256 of its key as 64 hexadecimal digits"),
        (f"bot:{A[:-1]}", "bot must have the SHA-256"),
        (f"bot:{A}:secret-word", "bot has an unknown scope; the only scope is exports"),
        (f"bot:{A}:exports:exports", "bot has an unknown scope"),
        (f"bot:{A},bot:{B}", "has two keys named bot"),
        (f"bot:{A},desk:{A.upper()}", "has the same key twice, as bot and as desk"),
    ],
)
def test_a_wrong_entry_is_refused_by_name_and_not_shown(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        parse_keys(text)
    assert "secret" not in str(refused.value)
    with pytest.raises(ValidationError, match=re.escape(said)) as refused:
        ApiSettings(database_url=SecretStr("postgresql:///x"), api_keys=SecretStr(text))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("HL_API_KEYS", "bot:hl_hidden-word", "HL_API_KEYS: bot must have the SHA-256"),
        ("HL_API_METRICS_TOKEN", "hidden-word", "HL_API_METRICS_TOKEN: must be at least 16 ASCII characters"),
        ("HL_API_METRICS_TOKEN", "a hidden-word with spaces", "HL_API_METRICS_TOKEN: must be at least 16 ASCII characters"),
        ("HL_API_CORS_ORIGINS", "https://app.example.com/", "HL_API_CORS_ORIGINS: 'https://app.example.com/' must be an origin"),
        ("HL_API_CORS_ORIGINS", "*, https://a.example", "HL_API_CORS_ORIGINS: '*' must be an origin"),
        ("HL_API_CORS_ORIGINS", "app.example.com", "HL_API_CORS_ORIGINS: 'app.example.com' must be an origin"),
        ("HL_API_REQUESTS_PER_MINUTE", "-1", "HL_API_REQUESTS_PER_MINUTE: must be greater than or equal to 0"),
    ],
)
def test_hl_refuses_a_wrong_setting_of_the_api_without_showing_a_secret(
    variable: str, value: str, said: str, tmp_path: Path
) -> None:
    done = run_in_process(tmp_path, {variable: value}, "status")
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert "hidden-word" not in done.stderr + done.stdout


def test_hl_api_key_prints_a_key_and_the_entry_with_its_hash(tmp_path: Path) -> None:
    found: set[str] = set()
    for options, scope in [((), ""), (("--exports",), ":exports")]:
        done = run_in_process(tmp_path, {}, "api-key", "bot", *options)
        assert done.returncode == 0, done.stderr
        [key] = re.findall(r"^  (hl_[A-Za-z0-9_-]{43})$", done.stdout, re.MULTILINE)
        assert f"\n  bot:{hashlib.sha256(key.encode()).hexdigest()}{scope}\n" in done.stdout
        found.add(key)
    assert len(found) == 2
    assert list(tmp_path.iterdir()) == []


def test_hl_api_key_refuses_a_name_that_is_no_entry(tmp_path: Path) -> None:
    done = run_in_process(tmp_path, {}, "api-key", "my bot")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the name must be 1 to 64 letters, digits, . _ -" in " ".join(done.stderr.split())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_hl_api_refuses_to_listen_for_others_without_keys(host: str, tmp_path: Path) -> None:
    done = run_in_process(tmp_path, {}, "api", "--host", host)
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert f"--host {host} lets other machines in" in said
    assert "HL_API_KEYS" in said
    assert "HL_API_WITHOUT_KEYS=1" in said
    assert list(tmp_path.iterdir()) == []


def test_an_address_is_loopback_only_if_no_other_machine_has_it() -> None:
    hosts = [
        "127.0.0.1",
        "127.8.9.1",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "::",
        "::ffff:10.0.0.1",
        "fe80::1%eth0",
        "x",
    ]
    assert [is_loopback(host) for host in hosts] == [True] * 4 + [False] * 6
