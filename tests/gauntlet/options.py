"""Hostile settings and options: from the command line, the environment, a TOML file and the folder of a run, alone and
several at once. Nothing is trained or played: what is accepted is only shown, by `--dry-run`.

Right is a dry run, or one line that refuses. Alone, a number outside its declared range must be refused, and by name.
"""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import psutil

import gauntlet
from gauntlet import Case, Outcome
from jaxzero.config import catalog, settings
from jaxzero.config import values as values_lib
from jaxzero.config.fields import Field

COUNT, FEW = 1500, 30
PRESET = "tic_tac_toe_test"
GROWTH = 500 * 2**20  # bytes of memory that a command may keep

GIANTS = [2**15, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**12, 10**18]
WHOLE = [*map(str, GIANTS), *(f"-{n}" for n in GIANTS), "0", "-1", "1", "9" * 400, "9" * 10_000, "-" + "9" * 400]
REAL = [
    "1e308", "-1e308", "1e400", "1e-320", "inf", "-inf", "nan", "-0.0", "0.0", "1e-45", "1e-12", "0.5", "1e9", "2.5",
]  # fmt: skip
TEXT = [
    "", " ", "x", "true", "²", "٣", "１２", "1_000", "0x10", "1e", "+", "--", "a" * 300, "ä" * 150, "a" * 100_000,
    "a\nb", "a\rb", "\x1b[31mred", "\x07", "\x00", "-x", "..", ".", "a/b", "../x", "a\\b", "dots...", "\udc80",
    "\u202e", "😀" * 60, "[1]", "{a = 1}", "a b", "run[1]", "*", "~", "/", "/dev/null", "/proc/self",
    "minimax:1000000", "mcts:" + "9" * 12, "minimax:" + "9" * 5000, "minimax:²", "mcts:-1", "uci:yes", "gtp:",
    "a@9:9", "@", ":", "perfect:1", "/dev/zero.py:f", "x.py:", "a" * 300 + ".py:f", "pgx:nope", "pgx:",
    "1," * 50_000, "resnet", "muzero_conv", "mlp", "minimax", "sprt",
]  # fmt: skip
TREES = [
    "1979-05-27", "07:32:00", "[]", "[[1]]", "[[[[[1]]]]]", "[1, 'a', 2.5]", "{}", "{a = {b = 1}}",
    "[" * 400 + "]" * 400, "[" * 20_000, "[" + "1," * 100_000 + "]", "[" + "1," * 20_000 + "]", "0x" + "f" * 5000,
    "1__0", "'''a\nb'''", '"\\u0000"', "{" + ".".join("a" * 20_000) + " = 1}", "true", "+nan", "9" * 5000,
]  # fmt: skip
FILES = [
    b"", b"\xef\xbb\xbfseed = 1\n", b"\xef\xbb\xbf\xef\xbb\xbfseed = 1", b'name = "l\xe4uf"', b"\xff\xfes\0", b"\0",
    b"seed = 1\nseed = 2", b"[search]\n[search]", b"search = 5", b"[[search]]", b"a.b.c.d = 1",
    b".".join([b"a"] * 30_000) + b" = 1", b"[" * 60_000,
    b"[" + b".".join([b"a"] * 2000) + b"]\n" + b"k.a = 1\n" * 7000, b"#" * 1_000_000, b"seed = 1\r\n\r", b"'",
    b'"""', b"=", b"seed", b"[game]\noptions = 1979-05-27",
    b"[game.options]\n" + b"".join(b"k%d = 1\n" % i for i in range(5000)),
]  # fmt: skip
OPTIONS = {  # of other commands: whole numbers that none of WRONG may be
    ("match", "random", "random", "--game", "hex", "--sprt"): ("games", "opening-plies", "seed", "at-once", "beta"),
    ("evaluate", "run"): ("games", "opening-plies", "seed", "simulations", "iteration"),
    ("rate", "run"): ("games", "opening-plies", "simulations"),
    ("check", "tic_tac_toe"): ("games",),
    ("play", "random", "--game", "tic_tac_toe"): ("seed", "side", "options.size"),
    ("report", "run"): ("games", "simulations", "step", "seed"),
    ("export", "run"): ("step", "format"),
    ("train", PRESET, "--dry-run"): ("from-step", "allow-change"),
}  # fmt: skip
WRONG = [
    "-1", str(2**63), str(10**12), "9" * 400, "9" * 10_000, "nan", "1e400", "", "²", "x", "a" * 100_000, "\x1b[31m",
    "\udc80", "[1]",
]  # fmt: skip


class Setting(NamedTuple):
    """One value on its way in."""

    way: str
    name: str
    text: str


def attack(random: random.Random, count: int, folder: Path) -> Iterator[Case]:
    kinds = (alone, alone, alone, together, from_file, other_command, of_a_run)
    gauntlet.command("train", PRESET, "--dry-run")  # not timed: it imports the package
    before = Path.cwd()
    make_odd_files(folder)
    (folder / "runs" / "run").mkdir(parents=True)
    (folder / "arena").mkdir()  # a match tries whether it can write its results before it makes its players
    try:
        os.chdir(folder)
        for number in range(count):
            yield kinds[number % len(kinds)](random)
    finally:
        os.chdir(before)


def make_odd_files(folder: Path) -> None:
    os.mkfifo(folder / "pipe.toml")
    (folder / "folder.toml").mkdir()
    (folder / "zero.toml").symlink_to("/dev/zero")
    (folder / "loop.toml").symlink_to("loop.toml")
    with open(folder / "sparse.toml", "wb") as file:
        file.truncate(5 * 2**30)


def draw(random: random.Random, name: str, field: Field) -> Setting:
    """A hostile value, as a rule of the kind that the setting takes."""
    way = random.choice(("command line", "environment", "file"))
    values = {int: WHOLE, float: REAL + WHOLE, str: TEXT}.get(field.hint, TEXT + WHOLE)
    if random.random() < 0.3:
        values = WHOLE + REAL + TEXT
    text = random.choice(values)
    if way == "file":
        text = random.choice(TREES) if random.random() < 0.3 else toml(text, field.hint)
    return Setting(way, name, text)


def toml(text: str, hint: Any) -> str:
    """A number as it is, other text as a string of TOML, which has no surrogates."""
    return text if hint in (int, float) else values_lib.toml(text.encode(errors="replace").decode())


def carry_in(chosen: list[Setting], *more: str) -> Outcome:
    """A dry run with these settings."""
    tokens = [f"--{s.name}={s.text}" for s in chosen if s.way == "command line"]
    environ = {settings.variable(s.name): s.text.replace("\0", "") for s in chosen if s.way == "environment"}
    lines = [f"{s.name} = {s.text}\n" for s in chosen if s.way == "file"]
    source = PRESET
    if lines:
        source = "given.toml"
        Path(source).write_bytes("".join(lines).encode(errors="surrogateescape"))
    with mock.patch.dict(os.environ, environ):
        return gauntlet.command("train", source, *tokens, *more, "--dry-run")


def judged(what: object, run: Any, *arguments: Any, refused: str | None = None) -> Case:
    """Runs a command; `refused`: it must be, and the message has this in it."""
    process = psutil.Process()
    before, there = process.memory_info().rss, set(os.listdir()) | {"given.toml"}
    began = time.process_time()
    outcome = run(*arguments)
    outcome = outcome._replace(seconds=time.process_time() - began)  # a busy machine is no fault; what waits never ends
    fault = gauntlet.refused_or_done(outcome)
    if not fault and refused is not None and (outcome.status != 2 or refused not in outcome.error):
        fault = f"not refused by {refused!r}: exit status {outcome.status}, {outcome.error[:200]!r}"
    if not fault and (made := set(os.listdir()) - there):
        fault = f"made {sorted(made)}"
    if not fault and (more := process.memory_info().rss - before) > GROWTH:
        fault = f"took {more >> 20} MB"
    text = repr(what)
    return Case(text if len(text) < 300 else f"{text[:200]}… ({len(text)} characters)", fault)


def alone(random: random.Random) -> Case:
    name, field = random.choice(list(catalog.every().items()))
    setting = draw(random, name, field)
    named = name if len(setting.text) < 4300 else ""  # TOML itself refuses longer numbers
    return judged(setting, carry_in, [setting], refused=named if outside(setting, field) else None)


def outside(setting: Setting, field: Field) -> bool:
    """Whether this is a number that is out of the setting's range."""
    try:
        value = float(setting.text) if field.hint is float else int(setting.text)
    except (ValueError, OverflowError):
        return False
    return field.range is not None and field.hint in (int, float) and value not in field.range


def together(random: random.Random) -> Case:
    fields = list(catalog.every().items())
    chosen = [draw(random, *random.choice(fields)) for _ in range(random.randint(2, 6))]
    chosen = list({setting.name: setting for setting in chosen}.values())
    return judged(chosen, carry_in, chosen)


def from_file(random: random.Random) -> Case:
    name = random.choice(["given.toml", "pipe.toml", "folder.toml", "zero.toml", "loop.toml", "sparse.toml"])
    if random.random() < 0.7:
        name, content = "given.toml", random.choice(FILES)
        if random.random() < 0.5:
            content = scrambled(random, settings.dump(settings.Config(name="a")).encode())
    else:
        content = b""
    Path("given.toml").write_bytes(content)
    return judged((name, content), gauntlet.command, "train", name, "--dry-run")


def scrambled(random: random.Random, content: bytes) -> bytes:
    """A file of settings with some bytes changed, cut out or doubled."""
    for _ in range(random.randint(1, 4)):
        start = random.randrange(len(content))
        end = start + random.choice((1, 1, 4, 100))
        new = random.choice((b"", b"\0", b"\xff", b"[", b'"', b".", b"9" * 50, content[start:end] * 2))
        content = content[:start] + new + content[end:]
    return content


def other_command(random: random.Random) -> Case:
    words, names = random.choice(list(OPTIONS.items()))
    tokens = (*words, f"--{random.choice(names)}={random.choice(WRONG)}")
    return judged(tokens, gauntlet.command, *tokens, refused="error: ")


def of_a_run(random: random.Random) -> Case:
    """A run's own config.toml with a hostile value in it, or a hostile name of a run."""
    name, field = random.choice(list(catalog.every().items()))
    setting = draw(random, name, field)._replace(way="file")
    content = f"{name} = {random.choice((toml(setting.text, field.hint), random.choice(TREES)))}\n"
    Path("runs/run/config.toml").write_bytes(content.encode(errors="surrogateescape"))
    run = "run" if random.random() < 0.7 else random.choice(TEXT)
    words = random.choice((("export",), ("report",), ("rate",), ("evaluate",), ("match", "random"), ("play",)))
    tokens = (*words, run)
    return judged((tokens, content), gauntlet.command, *tokens)
