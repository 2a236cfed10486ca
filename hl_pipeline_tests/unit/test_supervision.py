"""A process that dies is restarted a few times, after growing waits, and its death is reported once."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hl_pipeline.ops.service_log import open_log
from hl_pipeline.ops.supervision import Service, look_after
from hl_pipeline.ops.systemd import notify_systemd


@dataclass
class Fake:
    """A service that dies on request and is checked twice a second."""

    runs: bool = True
    may_start: bool = True
    now: float = 1000.0
    started: list[float] = field(default_factory=list[float])
    said: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.service = Service("api", self._start, lambda: None if self.runs else "was killed by SIGKILL")

    def _start(self) -> bool:
        if self.may_start:
            self.runs = True
            self.started.append(self.now)
        return self.may_start

    def look(self, seconds: float) -> bool:
        for _ in range(int(seconds * 2)):
            self.now += 0.5
            if not look_after(self.service, self.now, self.said.append):
                return False
        return True


def test_what_lives_is_left_alone() -> None:
    fake = Fake()
    assert fake.look(100)
    assert (fake.started, fake.said) == ([], [])


def test_each_death_waits_longer_and_is_said_once() -> None:
    fake = Fake()
    waits: list[float] = []
    for _ in range(5):
        died = fake.now
        fake.runs = False
        assert fake.look(20)
        waits.append(fake.started[-1] - died - 0.5)
    assert waits == [1, 2, 4, 8, 16]
    assert fake.said == [f"api was killed by SIGKILL; restarting in {wait} s" for wait in (1, 2, 4, 8, 16)]


def test_one_death_more_is_the_end() -> None:
    fake = Fake()
    for _ in range(5):
        fake.runs = False
        assert fake.look(20)
    fake.runs = False
    assert not fake.look(1)
    assert fake.said[-1] == "api was killed by SIGKILL, the 6th time in 10 minutes"


def test_deaths_of_long_ago_do_not_count() -> None:
    fake = Fake()
    for _ in range(20):
        fake.runs = False
        assert fake.look(200)
    assert len(fake.started) == 20


def test_what_cannot_start_yet_is_started_as_soon_as_it_can() -> None:
    fake = Fake(may_start=False)
    fake.runs = False
    assert fake.look(60)
    fake.may_start = True
    assert fake.look(1)
    assert fake.runs
    assert len(fake.said) == 1


def test_while_the_database_is_away_the_log_gets_the_first_lines_of_each_service(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_log(tmp_path) as log:
        log.forward("daemon", ["2026-01-01 - dagster - ERROR - first"])
        log.begin_outage()
        log.forward("daemon", (f"2026-01-01 - dagster - ERROR - {number}" for number in range(20_000)))
        log.forward("api", ["one line"])
        log.end_outage()
        log.forward("daemon", ["2026-01-01 - dagster - ERROR - last"])

    lines = (tmp_path / "hl.log").read_text().splitlines()
    assert lines[0] == "daemon    | 2026-01-01 - dagster - ERROR - first"
    assert lines[1:101] == [f"daemon    | 2026-01-01 - dagster - ERROR - {number}" for number in range(100)]
    left_out = "daemon    | 19,900 more lines omitted while the database did not answer"
    assert lines[101:] == ["api       | one line", left_out, "daemon    | 2026-01-01 - dagster - ERROR - last"]
    assert capsys.readouterr().out.splitlines() == [lines[0], lines[-1]]


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_told_where_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_abstract: bool) -> None:
    address = f"@{tmp_path.name}-notify" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address.replace("@", "\0", 1) if is_abstract else address)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify_systemd("READY=1")
        assert systemd.recv(100) == b"READY=1"


def test_without_systemd_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as somebody:
        somebody.bind(str(tmp_path / "notify"))
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        notify_systemd("READY=1")
        with pytest.raises(BlockingIOError):
            somebody.recv(100)
