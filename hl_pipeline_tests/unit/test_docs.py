"""What the documents name is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_every_test_named_by_a_trap_exists_and_every_trap_that_applies_names_one() -> None:
    text = (PROJECT / "docs" / "traps.md").read_text()
    there = _names_of_tests()
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert {int(line.split("|")[1]) for line in rows} == set(range(1, 15))
    for line in rows:
        named = set(re.findall(r"`(test_\w+)`", line))
        assert named <= there, named - there
        assert named or "*later*" in line


def test_every_kind_of_fault_names_tests_and_all_of_them_exist() -> None:
    text = (PROJECT / "docs" / "faults.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|") and not line.startswith(("|---", "| kind of fault |"))]
    assert len(rows) > 20
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row.split("|")[3]))
        assert named, row
        assert named <= _names_of_tests(), named - _names_of_tests()


def test_every_test_that_the_page_about_tests_names_exists() -> None:
    named = re.findall(r"`((?:unit|integration|system)/test_\w+\.py)`", (PROJECT / "docs" / "testing.md").read_text())
    assert named
    assert [name for name in named if not (PROJECT / "hl_pipeline_tests" / name).exists()] == []


def test_the_links_of_the_documents_lead_to_files() -> None:
    for document in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), (document.name, link)


@cache
def _names_of_tests() -> set[str]:
    tests = "".join(path.read_text() for path in (PROJECT / "hl_pipeline_tests").rglob("test_*.py"))
    return set(re.findall(r"def (test_\w+)", tests))
