"""The syntax of SGF: character sets, brackets, properties. `sgf` says what they mean in Go."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from encodings.aliases import aliases
from itertools import pairwise

from jaxzero.records.game import RecordError

# Possessive quantifiers (`*+`) keep all this linear. A value that the text ends in lacks its bracket.
VALUE = re.compile(r"\[((?:[^]\\]++|\\.)*+)(?:]|\\?\Z)", re.DOTALL)
TOKEN = re.compile(
    r"""((?:\s*+;[BW]\[[a-z]{,2}])++) | \s*+(?:  # moves and nothing else, which most of a file is; or one token:
      (;?)\s*+([A-Za-z]++)((?:\s*+\[(?:[^]\\]++|\\.)*+(]|\\?\Z))++)  # begin of a node, name, values, closing
    | ([();])
    | [A-Za-z]++ | \S | \Z
    )""",
    re.DOTALL | re.VERBOSE,
)
TREE = re.compile(r"\((?=\s*+;)")
ROOTS = ("FF", "GM", "SZ", "CA")  # properties by which the root of a tree is known
ROOT = re.compile(rf"\((?=\s*+;\s*+(?:{'|'.join(ROOTS)})\b)")
ROOT_LINE = re.compile(r"^[ \t]*+" + ROOT.pattern, re.MULTILINE)  # a value that reaches one was cut off
ESCAPE = re.compile(r"\\(?:\n|(.))")
SPACE = re.compile(r"[\t-\r]")  # in a line of text, each is a space
HEADERS = ("PB", "PW", "BR", "WR", "DT", "EV", "RO", "RU", "PC", "HA", "RE")
COLORS = "BW"
SETUP = {"AB": "X", "AW": "O", "AE": "."}
STEPS = (*COLORS, *SETUP, "PL")
LIKE_ASCII = re.compile(r"utf_8|ascii|latin|iso8859|iso2022|cp125|cp9|euc|gb|big5|shift_jis|koi8|johab")
CODECS = frozenset(filter(LIKE_ASCII.match, aliases.values()))
DECLARED = re.compile(r"CA\s*+\[([^]]{,40})")
WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"}


def decode(data: bytes) -> str:
    """The text of a file, each game in its own character set."""
    view = data.decode("latin-1")  # no character set in use hides the brackets of trees
    if not {charset(name) for name in set(DECLARED.findall(view))} - {"", "utf_8"}:
        with contextlib.suppress(UnicodeError):
            return data.decode()
    found = list(trees(view))
    begins = [0, *(tree.start for tree in found[1:]), len(data)]
    sets = [charset(tree.root.get("CA", "")) for tree in found] or [""]
    return "".join(decoded(data[a:b], name) for (a, b), name in zip(pairwise(begins), sets, strict=True))


def charset(name: str) -> str:
    """The codec of a `CA`, "" for an unknown one."""
    codec = name.strip().lower().removeprefix("x-").replace("-", "_").replace(" ", "_")
    codec = aliases.get(codec, codec)
    return WIDER.get(codec, codec) if codec in CODECS else ""


def decoded(data: bytes, codec: str) -> str:
    for name in filter(None, (codec, "utf-8")):
        try:
            return data.decode(name)
        except UnicodeError:
            continue
    return data.decode(codec or "latin-1", "replace")


@dataclasses.dataclass
class Tree:
    """A game tree as far as it is read."""

    start: int  # index of its bracket
    line: int
    end: int  # line of what was read last
    root: dict[str, str] = dataclasses.field(default_factory=dict)  # the first value of each property
    steps: list[tuple[int, int, str, str]] = dataclasses.field(default_factory=list)  # line, node, name of STEPS, value
    nodes: int = 0  # of the main line
    depth: int = 1  # brackets that are open
    main: bool = True  # still on the main line
    broken: RecordError | None = None  # the first thing wrong

    def object(self, line: int, message: str) -> None:
        self.broken = self.broken or RecordError(line, sum(step[2] in COLORS for step in self.steps), message)

    def play(self, line: int, moves: str) -> None:
        """Enters nodes of the main line with a move each."""
        for self.end, text in enumerate(moves.split("\n"), line):
            for move in text.split(";")[1:]:
                self.nodes += 1
                self.steps.append((self.end, self.nodes, move[0], move[2:].rstrip()[:-1]))

    def add(self, line: int, name: str, values: str) -> None:
        """Enters a property of the main line."""
        name = name if name.isupper() else "".join(filter(str.isupper, name))  # FF[3] has small letters in between
        if name in STEPS:
            self.steps += [(line, self.nodes, name, plain(value).strip()) for value in VALUE.findall(values)]
        if self.nodes == 1 and name not in self.root and (value := VALUE.search(values)):
            self.root[name] = SPACE.sub(" ", plain(value[1]))


def plain(value: str) -> str:
    return ESCAPE.sub(r"\1", value) if "\\" in value else value


def trees(text: str) -> Iterator[Tree]:
    """Every game tree. One that is cut off ends where the next begins (a root says FF, GM, SZ or CA)."""
    tree, stray, line, counted = None, False, 1, 0
    roots = [match.end() - 1 for match in ROOT_LINE.finditer(text)]
    for begin, end in pairwise(sorted({0, *roots, len(text)})):
        for match in TOKEN.finditer(text, begin, end):
            moves, semicolon, name, values, closing, mark = match.groups()
            at = match.start(3) if name else match.end() - len(match[0].lstrip())
            line += text.count("\n", counted, at)
            counted = at
            if mark == "(" and (ROOT if tree else TREE).match(text, at):
                if tree:
                    yield tree
                tree, stray = Tree(at, line, line), False
            elif tree is None:
                if (semicolon or moves or name in (*ROOTS, "KM", *HEADERS)) and not stray:  # the brackets are lost
                    yield Tree(at, line, line, broken=RecordError(line, 0, f"no SGF: {match[0].strip()[:30]!r}"))
                    stray = True
            elif moves:
                if tree.main:
                    tree.play(line, moves.strip())
            elif name:
                tree.end = line
                if tree.main:
                    tree.nodes += bool(semicolon)
                    if closing != "]":
                        tree.object(line, f"no SGF: {text[at : min(end, at + 30)].strip()!r}")
                    tree.add(line, name, values)
            elif mark:
                tree.end = line
                tree.depth += {"(": 1, ")": -1}.get(mark, 0)
                tree.nodes += mark == ";" and tree.main
                tree.main &= mark != ")"
                if not tree.depth:
                    yield tree
                    tree = None
            elif at < end:
                tree.end = line
                tree.object(line, f"no SGF: {text[at : min(end, at + 30)].strip()!r}")
        if tree:
            yield tree
        tree = None
