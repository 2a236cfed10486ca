"""Everything that README.md and docs/ name exists, their pages stay short, and generated pages match the code."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from hl_pipeline_tests.documents import DOCS, README, anchors, blocks_of, links, long_sentences, name_of, pages, paragraphs
from hl_pipeline_tests.processes import PROJECT
from hl_pipeline_tests.tools.write_reference import REFERENCE, reference_pages

# Pages from before the limit of words, and what is generated from the code's own texts.
_LONG_SENTENCES_ALLOWED = (
    "docs/reference/",
    "docs/performance.md",
    "docs/testing.md",
    "docs/faults.md",
    "docs/traps.md",
)

# Pages that quote messages, and beginnings of quoted words that are none of ours: commands, settings, words of boto3.
_PAGES_OF_MESSAGES = (
    "operations/s3-errors.md",
    "operations/crashes.md",
    "operations/connections.md",
    "guides/back-up.md",
    "guides/own-postgresql.md",
)
_NO_MESSAGES = ("hl ", "aws ", "uv ", "eval ", "pytest ", "find ", "uvicorn ", "pg_", "max_", "wal_", "hot_", "timed out")


def test_every_test_named_by_a_trap_exists_and_every_trap_that_applies_names_one() -> None:
    text = (DOCS / "traps.md").read_text()
    there = _names_of_tests()
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    assert {int(line.split("|")[1]) for line in rows} == set(range(1, 15))
    for line in rows:
        named = set(re.findall(r"`(test_\w+)`", line))
        assert named <= there, named - there
        assert named or "*later*" in line


def test_every_kind_of_fault_names_tests_and_all_of_them_exist() -> None:
    text = (DOCS / "faults.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|") and not line.startswith(("|---", "| kind of fault |"))]
    assert len(rows) > 20
    for row in rows:
        named = set(re.findall(r"`(test_\w+)`", row.split("|")[3]))
        assert named, row
        assert named <= _names_of_tests(), named - _names_of_tests()


def test_every_test_that_the_page_about_tests_names_exists() -> None:
    named = re.findall(r"`((?:unit|integration|system)/test_\w+\.py)`", (DOCS / "testing.md").read_text())
    assert named
    assert [name for name in named if not (PROJECT / "hl_pipeline_tests" / name).exists()] == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    for target, anchor in links(page):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{target}#{anchor}"


def test_the_readme_has_at_most_120_lines_and_each_page_250() -> None:
    lengths = {name_of(page): len(page.read_text().splitlines()) for page in pages()}
    assert lengths.pop("README.md") <= 120
    assert {name: length for name, length in lengths.items() if length > 250} == {}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_paragraph_has_at_most_four_lines(page: Path) -> None:
    assert [paragraph for paragraph in paragraphs(page) if len(paragraph.splitlines()) > 4] == []


def test_no_sentence_has_more_than_25_words() -> None:
    found = {name_of(page): long_sentences(page) for page in pages()}
    assert {name: long for name, long in found.items() if long and not name.startswith(_LONG_SENTENCES_ALLOWED)} == {}


def test_the_readme_names_the_command_of_the_gate() -> None:
    assert "make test" in README.read_text()


def test_every_page_that_the_repository_names_exists() -> None:
    named = subprocess.run(
        ["git", "grep", "-hoE", r"\bdocs/[a-z0-9_/-]+\.md\b"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert [name for name in sorted(set(named.split())) if not (PROJECT / name).exists()] == []


def test_the_reference_is_what_the_code_says() -> None:
    """A page differs: run `make reference`."""
    for name, text in reference_pages().items():
        assert (REFERENCE / name).read_text() == text, name


@pytest.mark.parametrize("name", _PAGES_OF_MESSAGES)
def test_the_messages_that_a_page_explains_are_those_of_the_code(name: str) -> None:
    quoted = re.findall(r"`([^`\n]*)`", (DOCS / name).read_text())
    # Between what differs each time (`…`, numbers), the words are the code's; names, commands and S3's own codes have no space.
    parts = [part.strip() for text in quoted for part in re.split(r"…|\(…\)|\d+", text)]
    phrases = [part for part in parts if re.fullmatch(r"[a-z][A-Za-z',;:() -]* [A-Za-z',;:() -]+", part)]
    messages = [part for part in phrases if not part.startswith(_NO_MESSAGES)]
    assert messages
    assert [part for part in messages if part not in _texts_of_the_code()] == []


def test_each_page_of_docs_is_in_the_navigation() -> None:
    navigation = (PROJECT / "mkdocs.yml").read_text()
    assert [page for page in pages() if page != README and str(page.relative_to(DOCS)) not in navigation] == []


def test_every_block_of_code_names_its_language() -> None:
    """One word: MkDocs takes no more."""
    known = {"sh", "bash", "sql", "duckdb", "python", "json", "csv", "yaml", "text", "nginx", "caddy"}
    assert [str(block) for page in pages() for block in blocks_of(page) if block.language not in known] == []


@cache
def _texts_of_the_code() -> str:
    """All modules in one text, what stands in one message over several lines joined, and without what is put into it."""
    code = "".join(path.read_text() for folder in ("hl_pipeline", "api") for path in (PROJECT / folder).rglob("*.py"))
    return re.sub(r'"\s*\n\s*f?"', "", code)


@cache
def _names_of_tests() -> set[str]:
    tests = "".join(path.read_text() for path in (PROJECT / "hl_pipeline_tests").rglob("test_*.py"))
    return set(re.findall(r"def (test_\w+)", tests))
