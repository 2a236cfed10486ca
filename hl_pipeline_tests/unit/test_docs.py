"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_every_test_named_by_a_trap_exists_and_every_trap_that_applies_names_one() -> None:
    text = (PROJECT / "docs" / "traps.md").read_text()
    tests = "".join(path.read_text() for path in (PROJECT / "hl_pipeline_tests").rglob("test_*.py"))
    there = set(re.findall(r"def (test_\w+)", tests))
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert {int(line.split("|")[1]) for line in rows} == set(range(1, 15))
    for line in rows:
        named = set(re.findall(r"`(test_\w+)`", line))
        assert named <= there, named - there
        assert named or "*later*" in line


def test_the_links_of_the_documents_lead_to_files() -> None:
    for document in [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), (document.name, link)
