"""What matches leave behind: arena.csv, last_arena.json, and the games themselves."""

import contextlib
import csv
import dataclasses
import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from envs.core import begins_alike
from jaxzero import files, messages, records
from jaxzero.config.games import make_env
from jaxzero.config.schema import GameConfig
from jaxzero.evaluation.matches import MatchResult
from jaxzero.messages import ConfigError
from jaxzero.runs.trouble import check_writable

_log = logging.getLogger(__name__)

COLUMNS: tuple[str, ...] = (
    "timestamp", "game", "a", "b", "games", "wins", "draws", "losses", "score", "low", "high", "mean_length",
    "first_wins", "first_draws", "first_losses", "second_wins", "second_draws", "second_losses", "duplicates",
    "opening_plies", "seed", "seconds", "llr", "verdict",
)  # fmt: skip
HEAD = ",".join(COLUMNS)
FILE, LAST, LOCK = "arena.csv", "last_arena.json", ".arena.lock"
MOST_BYTES = 1 << 30  # of arena.csv


def row(facts: dict[str, Any]) -> dict[str, Any]:
    """A line of arena.csv."""
    sides = {
        f"{side}_{name}": facts[f"as_{side}"][name]
        for side in ("first", "second")
        for name in ("wins", "draws", "losses")
    }
    test = facts.get("sprt", {})
    found = facts | sides | dict(zip(("low", "high"), facts["interval"], strict=True))
    found |= {"llr": test.get("llr", ""), "verdict": test.get("verdict", "")}
    return {name: found[name] for name in COLUMNS}


def check(folder: Path) -> None:
    """Raises:
    ConfigError: arena.csv there is not ours, or nothing can be written there.
    """
    file = folder / FILE
    check_writable(folder)
    for name in (FILE, LAST, LOCK):
        files.check_target(folder / name, "--out")
    head = (files.read(file, MOST_BYTES) or b"").partition(b"\n")[0].decode(errors="replace")
    if head and head != HEAD:
        shown = messages.shortened(head, 60)
        raise ConfigError(f"{file}: has other columns ({shown}); move it aside or choose another --out")


def append(folder: Path, facts: dict[str, Any]) -> None:
    """Appends to arena.csv and writes last_arena.json anew; matches that end at once are all kept."""
    line = io.StringIO()
    csv.DictWriter(line, list(COLUMNS), lineterminator="\n").writerow(row(facts))
    files.check_regular(folder / LAST)
    with files.locked(folder / LOCK):
        if files.append(folder / FILE, line.getvalue(), HEAD + "\n"):
            _log.warning("%s: its last line is torn; the match has been entered below it", folder / FILE)
        files.write(folder / LAST, json.dumps(facts, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def cut_back(folder: Path, iteration: int) -> None:
    """Removes the matches of checkpoints after `iteration` of the run in this folder, which plays them again."""
    if not (folder / FILE).exists():
        return
    own = re.compile(rf"{re.escape(folder.name)}@(\d+):\d+")

    def later(line: str) -> bool:
        with contextlib.suppress(csv.Error, StopIteration):
            match = own.fullmatch(dict(zip(COLUMNS, next(csv.reader([line])), strict=False)).get("a", ""))
            return match is not None and int(match[1]) > iteration
        return False  # no line of ours

    with files.locked(folder / LOCK):
        # Lines that are damaged stay as they are, byte for byte.
        lines = (
            (files.read(folder / FILE, MOST_BYTES) or b"").decode(errors="surrogateescape").splitlines(keepends=True)
        )
        kept = [line for line in lines if not later(line)]
        if len(kept) < len(lines) and lines[0].strip() == HEAD:
            files.write(folder / FILE, "".join(kept).encode(errors="surrogateescape"))


# Records


def check_record(path: Path, game: GameConfig, overwrite: bool) -> None:
    """Raises:
    ConfigError: the file is there already or cannot be written, or its format cannot hold the game with its options.
    """
    fitting = records.suffixes(game.source or game.name)
    if path.suffix.lower() not in fitting:
        raise ConfigError(f"record: {path}: games of {game.name or game.source} are written as {' or '.join(fitting)}")
    try:
        records.format_of(path).dump([records.Game(game.source or game.name, game.options, [])])
    except ValueError as error:
        raise ConfigError(f"record: {path}: {error}") from error
    check_writable(path.parent)
    files.check_target(path, "record", overwrite)


def write_games(path: Path, game: GameConfig, a: str, b: str, result: MatchResult) -> None:
    """All games of a match in the format of the suffix; the two of a pair follow each other."""
    env, form = make_env(game), records.format_of(path)
    outcomes, moves, chance = (np.asarray(field) for field in (result.outcomes, result.moves, result.chance))
    found = []
    for pair in range(outcomes.shape[1]):
        start = None if begins_alike(env) else env.to_text(jax.tree.map(lambda x, pair=pair: x[0, pair], result.first))
        for seat, names in enumerate(((a, b), (b, a))):
            played = moves[seat, pair]
            played = played[played >= 0].tolist()
            drawn = chance[seat, pair, : len(played)].tolist() if env.num_outcomes else None
            reward = float(outcomes[seat, pair]) * (1 - 2 * seat)
            found.append(
                records.Game(
                    game.source or game.name, game.options, played, (reward, -reward)[: env.num_players],
                    dict(zip(form.players[: env.num_players], names, strict=False)), start, drawn,
                )
            )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    records.write(path, found if form.game else with_rewards(found))


def with_rewards(games: list[records.Game]) -> list[records.Game]:
    """The games with what each player earned where the moves reach the end, not always 1, 0 or -1."""
    pairs = zip(games, records.replay_games(games), strict=True)
    return [dataclasses.replace(game, result=found.result) if found.over else game for game, found in pairs]
