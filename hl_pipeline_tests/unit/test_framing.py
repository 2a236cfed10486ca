"""Splitting objects into chunks of whole lines: frames, truncation, long lines, in bounded memory."""

from __future__ import annotations

import gzip
import io

import lz4.frame
import pytest

from hl_pipeline.formats.framing import MAX_LINE_BYTES, UnreadableObjectError, decompress, whole_lines

LINES = b"".join(b"line %d of many\n" % n for n in range(50_000))


def _read(content: bytes, codec: str = "lz4") -> bytes:
    return b"".join(decompress(io.BytesIO(content), codec))


@pytest.mark.parametrize("codec", ["lz4", "gz"])
def test_one_frame_or_several_give_all_their_lines(codec: str) -> None:
    compress = lz4.frame.compress if codec == "lz4" else gzip.compress
    middle = len(LINES) // 2
    assert _read(compress(LINES), codec) == LINES
    assert _read(compress(LINES[:middle]) + compress(LINES[middle:]) + compress(b""), codec) == LINES


@pytest.mark.parametrize("codec", ["lz4", "gz"])
@pytest.mark.parametrize("kept", [1, 10, 1000, -1])
def test_a_truncated_object_is_said_to_be_and_is_never_half_an_object(codec: str, kept: int) -> None:
    content = (lz4.frame.compress if codec == "lz4" else gzip.compress)(LINES)
    with pytest.raises(UnreadableObjectError, match=r"truncated: the .* stream ends within a frame"):
        _read(content[:kept], codec)


def test_a_second_frame_that_is_cut_is_noticed() -> None:
    frame = lz4.frame.compress(LINES)
    with pytest.raises(UnreadableObjectError, match="truncated"):
        _read(frame + frame[:500])


@pytest.mark.parametrize("codec", ["lz4", "gz"])
def test_what_is_no_frame_is_named_with_its_place(codec: str) -> None:
    with pytest.raises(UnreadableObjectError, match=f"not a whole {codec} stream: .* from byte 0"):
        _read(b"<html>no object</html>" * 100, codec)


def test_an_empty_object_has_no_lines() -> None:
    assert _read(b"") == b""
    assert list(whole_lines(iter([]))) == []


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_chunks_are_whole_lines_whatever_the_pieces(size: int) -> None:
    pieces = [LINES[at : at + 333] for at in range(0, len(LINES), 333)]
    chunks = list(whole_lines(iter(pieces), size))
    assert b"".join(chunks) == LINES
    assert all(chunk.endswith(b"\n") for chunk in chunks)
    assert max(map(len, chunks)) <= size + 333 + 20


def test_a_last_line_without_its_newline_is_a_line() -> None:
    assert list(whole_lines(iter([b"a\nb"]))) == [b"a\nb\n"]


def test_a_line_of_two_megabytes_comes_whole() -> None:
    line = b"x" * (2 << 20) + b"\n"
    assert list(whole_lines(iter([b"a\n", line[:500], line[500:], b"b\n"]), 1000)) == [b"a\n" + line, b"b\n"]


def test_data_without_lines_is_refused_before_it_fills_the_memory() -> None:
    piece = b"x" * (16 << 20)
    pieces = (piece for _ in range(MAX_LINE_BYTES // len(piece) + 2))
    with pytest.raises(UnreadableObjectError, match="not line data"):
        list(whole_lines(pieces))


@pytest.mark.parametrize("size", [1, 2, 5, 1 << 20])
def test_a_byte_order_mark_is_no_part_of_the_first_line(size: int) -> None:
    marked = b"\xef\xbb\xbf" + LINES
    pieces = [marked[at : at + size] for at in range(0, 1000, size)] + [marked[1000 // size * size + size * (1000 % size > 0) :]]
    assert b"".join(whole_lines(iter(pieces))) == LINES
    assert list(whole_lines(iter([b"\xef\xbb\xbf"]))) == []
    assert list(whole_lines(iter([b"\xef\xbb"]))) == [b"\xef\xbb\n"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(UnreadableObjectError, match="in UTF-16, as its byte-order mark says; convert it to UTF-8"):
        list(whole_lines(iter(["\ufeff{}\n".encode(encoding)])))
