"""An MkDocs hook that adds pages from the top of the repository to the site. Their links work in both places."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# Each file, with its page and its title in the navigation.
_PAGES = {
    "ARCHITECTURE.md": ("architecture.md", "Architecture"),
    "CONTRIBUTING.md": ("contributing.md", "Contribute"),
    "CHANGELOG.md": ("changelog.md", "Changelog"),
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages to the last section of the navigation."""
    assert config.nav
    [section] = config.nav[-1].values()
    section.extend({title: page} for page, title in _present(config).values())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, with their links adapted to the site."""
    root = Path(config.docs_dir).parent
    for name, (page, _) in _present(config).items():
        files.append(File.generated(config, page, content=_for_the_site((root / name).read_text())))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links of a page in docs/ to these files."""
    for name, (page, _title) in _PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return markdown


def _present(config: MkDocsConfig) -> dict[str, tuple[str, str]]:
    root = Path(config.docs_dir).parent
    return {name: page for name, page in _PAGES.items() if (root / name).exists()}


def _for_the_site(text: str) -> str:
    text = text.replace("](docs/", "](")
    # The site draws no diagrams, since that would load an external script. The picture shows the same graph.
    text = re.sub(r"```mermaid\n.*?```", "![The asset graph in the Dagster UI](pictures/asset-graph.png)", text, flags=re.DOTALL)
    for name, (page, _) in _PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    # The site has no code, so a link to a file or directory outside docs/ becomes its plain name.
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#|[\w/-]+\.(?:md|png)\b)[^)]+\)", r"\1", text)
