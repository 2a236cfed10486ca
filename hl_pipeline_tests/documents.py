"""Reads the pages of README.md and docs/: their code blocks, headings, links and sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hl_pipeline_tests.processes import PROJECT

DOCS = PROJECT / "docs"
README = PROJECT / "README.md"
# Maximum number of words in a sentence, from the project's style guide.
SENTENCE_WORDS = 25
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|vs|etc)\.")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page. `language` is that of the page, but `duckdb` for SQL that reads the lake."""

    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        """Return the name that pytest shows."""
        return f"{name_of(self.page)}: {self.text.strip().splitlines()[0][:60] if self.text.strip() else ''}"


def pages() -> list[Path]:
    """Return README.md and every page of docs/."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """Return the path of a page within the repository."""
    return str(page.relative_to(PROJECT))


def blocks(*languages: str, but: tuple[str, ...] = ()) -> list[Block]:
    """Return the blocks in these languages on all pages, except the named pages."""
    of_pages = [block for page in pages() if name_of(page) not in but for block in blocks_of(page)]
    return [block for block in of_pages if block.language in languages]


def blocks_of(page: Path, text: str | None = None) -> list[Block]:
    """Return the blocks of a page, or of a part of its text."""
    found = _BLOCK.findall(page.read_text() if text is None else text)
    return [Block(page, "duckdb" if "read_parquet(" in code and name == "sql" else name.strip(), code) for name, code in found]


def without_blocks(text: str) -> str:
    """Return a page's text without its fenced blocks."""
    return _BLOCK.sub("", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them."""
    found: dict[str, int] = {}
    names: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", without_blocks(page.read_text()), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        names.add(f"{slug}-{count}" if count else slug)
    return names


def links(page: Path) -> list[tuple[str, str]]:
    """Return the links of a page to files and headings, as target and anchor."""
    found = re.findall(r"\]\((?!https?://|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)", without_blocks(page.read_text()))
    return [(target, anchor) for target, anchor in found]


def paragraphs(page: Path) -> list[str]:
    """Return paragraphs and list items, without headings, tables, blocks and pictures."""
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[*-]|\d+\.) )", without_blocks(page.read_text()))
    kept = [part.strip("\n") for part in parts]
    return [part for part in kept if part and not part.lstrip().startswith(("#", "|", "![", "<!--"))]


def sentences(page: Path) -> list[str]:
    """Return the sentences of a page's paragraphs and table cells. Code and links count as one word each."""
    text = without_blocks(page.read_text())
    cells = [cell for line in text.splitlines() if line.startswith("|") for cell in re.split(r"(?<!\\)\|", line)]
    found: list[str] = []
    for part in [*paragraphs(page), *cells]:
        plain = re.sub(r"`[^`]+`", "CODE", part)
        plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", plain)
        plain = _ABBREVIATION.sub(r"\1", re.sub(r"[*_]{1,2}", "", plain))
        found += re.split(r"(?<=[.!?])\s+", " ".join(plain.split()))
    return [sentence for sentence in found if sentence]


def long_sentences(page: Path) -> list[str]:
    """Return the sentences with more than `SENTENCE_WORDS` words."""
    return [sentence for sentence in sentences(page) if len(re.findall(r"[\w'’%$]+", sentence)) > SENTENCE_WORDS]
