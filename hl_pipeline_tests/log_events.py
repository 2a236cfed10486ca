"""Runs an action at an event of the pipeline's own log, before the code that logged it continues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager

from hl_pipeline.events import is_event


class _Once(logging.Handler):
    def __init__(self, event: str, count: int, act: Callable[[], object]) -> None:
        super().__init__()
        self.left, self._event, self._act = count, event, act

    def emit(self, record: logging.LogRecord) -> None:
        if is_event(record) and record.event == self._event:
            self.left -= 1
            if self.left == 0:
                self._act()


@contextmanager
def at_event(event: str, act: Callable[[], object], count: int = 1) -> Generator[None]:
    """Call `act` at the `count`th `event` within the block. Fails if the event does not occur that often."""
    logger = logging.getLogger("hl_pipeline")
    before, handler = logger.level, _Once(event, count, act)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    assert handler.left <= 0, f"{event} did not come {count} times"
