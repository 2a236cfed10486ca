"""Ctrl-C, at a moment when Python itself would lose it."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from hl_pipeline.cli.terminal import deliver_again


class _Collected:
    """What is interrupted while it is collected: Python tells sys.unraisablehook, and goes on."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_an_interruption_that_meets_the_garbage_collector_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", deliver_again)
    collected = _Collected()
    del collected
    with pytest.raises(KeyboardInterrupt):
        time.sleep(10)


def test_any_other_error_there_is_shown_as_python_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Faulty:
        def __del__(self) -> None:
            raise ValueError("a fault")

    monkeypatch.setattr(sys, "unraisablehook", deliver_again)
    faulty = Faulty()
    del faulty
    assert "ValueError: a fault" in capsys.readouterr().err
