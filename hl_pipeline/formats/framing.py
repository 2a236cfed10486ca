"""Splits the bytes of an object into chunks of whole lines, in bounded memory. The other modules of `formats` parse the lines."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol, cast

import lz4.frame

CHUNK_BYTES = 8 << 20
"""Beyond this size, memory grows but speed hardly does: 2/4/8/16 MiB gave 289/336/363/365 thousand fills per second."""
MAX_LINE_BYTES = 256 << 20
_READ_BYTES = 256 << 10


class UnreadableObjectError(ValueError):
    """The object's bytes are incomplete or not of the expected format. The message has the position and the next step."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _new_decompressor(codec: str) -> _Decompressor:
    made: object = lz4.frame.LZ4FrameDecompressor() if codec == "lz4" else zlib.decompressobj(wbits=31)
    return cast(_Decompressor, made)


def decompress(stream: BinaryIO, codec: str) -> Iterator[bytes]:
    """Yield the contents of an `lz4` or `gz` stream of one or more frames piece by piece. Other codecs are passed through.

    Raises UnreadableObjectError if the stream ends within a frame or contains something else.
    """
    if codec not in ("lz4", "gz"):
        yield from iter(lambda: stream.read(_READ_BYTES), b"")
        return
    decompressor = _new_decompressor(codec)
    position, at_frame_start = 0, True
    while data := stream.read(_READ_BYTES):
        while data:
            if decompressor.eof:
                decompressor, at_frame_start = _new_decompressor(codec), True
            try:
                piece = decompressor.decompress(data)
            except (RuntimeError, zlib.error) as error:
                raise UnreadableObjectError(
                    f"not a whole {codec} stream: {error}, within the {_READ_BYTES} bytes from byte {position}; "
                    "fetch it again or report it to the bucket's owner"
                ) from None
            at_frame_start = False
            if piece:
                yield piece
            data = (decompressor.unused_data or b"") if decompressor.eof else b""
        position = stream.tell()
    if not decompressor.eof and not at_frame_start:
        raise UnreadableObjectError(f"truncated: the {codec} stream ends within a frame, at byte {position}; fetch it again")


def whole_lines(pieces: Iterator[bytes], chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """Split `pieces` into chunks of whole lines of about `chunk_bytes`, each ending in a newline. A byte-order mark at the start,
    which some editors and shells write, is removed.

    Raises UnreadableObjectError for a line longer than MAX_LINE_BYTES, and for UTF-16.
    """
    pending: list[bytes] = []
    size = 0
    for piece in _without_mark(pieces):
        pending.append(piece)
        size += len(piece)
        if size < chunk_bytes:
            continue
        end = piece.rfind(b"\n") + 1
        if end == 0:
            if size > MAX_LINE_BYTES:
                raise UnreadableObjectError(f"a line is longer than {MAX_LINE_BYTES} bytes: this is not line data")
            continue
        pending[-1] = piece[:end]
        yield b"".join(pending)
        pending, size = [piece[end:]], len(piece) - end
    if size:
        rest = b"".join(pending)
        yield rest if rest.endswith(b"\n") else rest + b"\n"


def _without_mark(pieces: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= len(codecs.BOM_UTF8):
            break
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnreadableObjectError("the text is in UTF-16, as its byte-order mark says; convert it to UTF-8")
    if head := head.removeprefix(codecs.BOM_UTF8):
        yield head
    yield from pieces
