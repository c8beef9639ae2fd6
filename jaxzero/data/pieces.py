"""Files of records of any size, read piece by piece: each piece holds whole games, as far as their text shows.

A piece depends on where it begins and on nothing before: reading that goes on there gives the same pieces. Files may be
compressed by gzip (`.gz`) or Zstandard (`.zst`).
"""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

BLOCK = 1 << 20  # bytes of a piece, or more if no game begins there
READ = 1 << 16  # bytes read at once: of a damaged file, fewer are lost before the damage
LONGEST = 1 << 24  # bytes of a game; a longer one is left out
PACKED = {".gz": "gzip", ".zst": "zstd"}
UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


class Place(NamedTuple):
    """Where a piece begins."""

    line: int  # from 1
    offset: int  # in bytes of the decompressed UTF-8 text with `\\n` at the ends of lines


START = Place(1, 0)


class Piece(NamedTuple):
    begin: Place
    end: Place
    data: bytes
    problem: str = ""  # why there is no data: a game that is too long, or the rest of a damaged file


def unpacked(path: Path) -> Path:
    """The name without the ending of its compression."""
    return path.with_suffix("") if path.suffix.lower() in PACKED else path


def compression(path: Path) -> str | None:
    return PACKED.get(path.suffix.lower())


def pieces(path: Path, begins: tuple[re.Pattern[bytes], ...], begin: Place = START) -> Iterator[Piece]:
    """The pieces of a file from there on. `begins` match the end of the text before a game, the surest first.

    Raises:
        OSError: the file cannot be opened.
    """
    blocks = Blocks(path)
    blocks.skip(begin.offset)
    while True:
        size = BLOCK
        while not (cut := blocks.cut(size, begins)) and size < LONGEST:
            size += BLOCK
        if cut:
            data = blocks.take(cut)
            end = after(begin, data)
            yield Piece(begin, end, data)
        elif blocks.fill(0):
            end = begin
            while blocks.fill(0) and not (cut := blocks.first(begins)):
                end = after(end, blocks.take(BLOCK))
            end = after(end, blocks.take(cut))
            yield Piece(begin, end, b"", f"a game of more than {LONGEST >> 20} MiB")
        else:
            break
        begin = end
    if blocks.damage:
        yield Piece(begin, begin, b"", f"the file is damaged from here on: {blocks.damage}")


def after(begin: Place, data: bytes) -> Place:
    return Place(begin.line + data.count(b"\n"), begin.offset + len(data))


class Blocks:
    """The text of a file, of which a part is held: decompressed, in UTF-8 if it was in UTF-16, with `\\n` at the ends
    of lines."""

    def __init__(self, path: Path):
        path.open("rb").close()  # raises errors of the system rather than those of Arrow
        self._buffer, self._held, self._ended, self.damage = b"", b"", False, ""
        self._text = self._read(path)

    def _read(self, path: Path) -> Iterator[bytes]:
        with pa.input_stream(str(path), compression=compression(path)) as file:
            head = file.read(3)
            decode = codecs.getincrementaldecoder(UTF16[head[:2]])("replace") if head[:2] in UTF16 else None
            block = head[2:] if decode else head.removeprefix(codecs.BOM_UTF8)
            while block or head:
                yield decode.decode(block).encode("utf-8", "replace") if decode else block
                head, block = b"", file.read(READ)

    def fill(self, size: int) -> bool:
        """Holds more than so many bytes, unless the text ends before -> whether it does hold more."""
        while len(self._buffer) <= size and not self._ended:
            try:
                block = next(self._text, None)
            except (OSError, pa.ArrowException) as error:
                block, self.damage = None, str(error)
            self._ended = block is None
            block, self._held = self._held + (block or b""), b""
            if block.endswith(b"\r") and not self._ended:  # it may belong to a line feed of the next block
                block, self._held = block[:-1], b"\r"
            self._buffer += block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block
        return len(self._buffer) > size

    def cut(self, size: int, begins: tuple[re.Pattern[bytes], ...]) -> int:
        """Where the last game within so many bytes begins; the end of the text if that comes before; else 0."""
        if not self.fill(size):
            return len(self._buffer)
        for pattern in begins:
            cut = max((match.end() for match in pattern.finditer(self._buffer, 0, size)), default=0)
            if cut:
                return cut
        return 0

    def first(self, begins: tuple[re.Pattern[bytes], ...]) -> int:
        """Where the first game begins among a block of bytes, else 0."""
        self.fill(BLOCK)
        found = (pattern.search(self._buffer, 0, BLOCK) for pattern in begins)
        return min((match.end() for match in found if match and match.end()), default=0)

    def take(self, size: int) -> bytes:
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def skip(self, size: int) -> None:
        while size and self.fill(0):
            size -= len(self.take(size))
