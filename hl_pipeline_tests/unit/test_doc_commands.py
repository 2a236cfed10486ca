"""The real command line accepts every `hl` command in README.md, docs/ and the code's messages: command, options, values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import typer.main

from hl_pipeline.cli.main import app
from hl_pipeline_tests.documents import blocks, name_of, pages, without_blocks
from hl_pipeline_tests.processes import PROJECT

# Words of a text that stand for a value.
_VALUES = {"DAY": "2026-03-15", "TIME": "2026-03-15T14:00:00Z", "DIRECTORY": "/backups", "BACKUP": "/backups/one", "…": ""}
_ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
_ENDS = {"|", "&&", ";", ">", "2>&1"}


@cache
def _hl() -> Any:
    return typer.main.get_command(app)


def _lines() -> Iterator[tuple[str, str]]:
    """Each command line of a block: the page, and the line from `hl` on."""
    for block in blocks("sh", "bash", "text"):
        for line in block.text.replace("\\\n", " ").splitlines():
            inner = re.findall(r"\$\((hl [^|)]*)", line)
            for command in [*inner, line]:
                found = re.search(r"(?:^|&& |\s)(?:\S*\.venv/bin/)?(hl [a-z].*)", command)
                # Of texts, which mostly show output, the line of cron alone.
                if found and (block.language != "text" or re.match(r"\d+ \d+ \* ", line)):
                    yield name_of(block.page), found[1]


def _inline() -> Iterator[tuple[str, str]]:
    """Each `hl …` within a sentence that names a command."""
    for page in pages():
        for text in re.findall(r"`(?:[A-Z_]+=\S+ )*(hl [a-z][^`\n]*)`", without_blocks(page.read_text())):
            yield name_of(page), text


def _messages() -> Iterator[tuple[str, str]]:
    """Each `hl …` in the code, in messages and docstrings."""
    for package in ("hl_pipeline", "api", "hl_client"):
        for file in sorted((PROJECT / package).rglob("*.py")):
            for text in re.findall(r"`(hl [a-z][^`\n]*)`", file.read_text()):
                yield str(file.relative_to(PROJECT)), re.sub(r"\{[^}]*\}", "VALUE", text)


def _words(line: str) -> list[str]:
    """The words of a command as the program gets them; values in the place of what stands for them."""
    words: list[str] = []
    for word in shlex.split(line.replace("$(hl", "hl"), comments=True):
        if word in _ENDS or word.startswith(">"):
            break
        words.append(_VALUES.get(word, word))
    return [word for word in words[1:] if word]


def _parse(words: list[str]) -> None:
    """Parse the words as `hl` does, and do nothing. Raises what it says of them."""
    command: Any = _hl()
    context = command.make_context("hl", list(words), resilient_parsing=False)
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, command, left = command.resolve_command(context, rest)
        context = command.make_context(name, left, parent=context)


@pytest.mark.parametrize("line", sorted({line for _, line in _lines()}))
def test_each_command_line_of_a_block_is_taken(line: str) -> None:
    _parse(_words(line))


@pytest.mark.parametrize(("page", "text"), sorted(set(_inline())))
def test_each_command_within_a_sentence_exists_with_its_options(page: str, text: str) -> None:
    """Its arguments may be left out there."""
    found: Any = _hl()
    for word in shlex.split(text)[1:]:
        if word.startswith("--"):
            known = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
            assert word in known | {"--help"} or "…" in text, (page, text)
        elif hasattr(found, "commands") and word not in ("…", "COMMAND"):
            assert word in found.commands, (page, text)
            found = found.commands[word]


@pytest.mark.parametrize(("file", "text"), sorted(set(_messages())))
def test_each_command_in_a_message_exists_with_its_options_and_has_no_other_words(file: str, text: str) -> None:
    found: Any = _hl()
    rest = shlex.split(text)[1:]
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            [option] = [one for one in found.params if word in (*one.opts, *one.secondary_opts)] or [None]
            assert option is not None or word == "--help", (file, text)
            if option is not None and not option.is_flag and rest and not rest[0].startswith("--"):
                rest.pop(0)
        elif hasattr(found, "commands"):
            assert word in found.commands, (file, text)
            found = found.commands[word]
        else:
            assert any(one.param_type_name == "argument" for one in found.params), (file, text)


def test_the_pages_have_many_commands_and_a_wrong_one_is_refused() -> None:
    assert len(set(_lines())) > 40
    for wrong in (["ingest", "--frm", "2026-03-15"], ["inges"], ["ingest", "--from", "yesterday"], ["backup"]):
        with pytest.raises(Exception, match=r"."):
            _parse(wrong)
