"""Games as pure jittable JAX functions. `envs.make("connect_four")` gives one; `envs.GAMES` lists them."""

import dataclasses
import difflib
from typing import Any

from envs.backgammon import Backgammon
from envs.breakthrough import Breakthrough
from envs.chess import Chess
from envs.connect_four import ConnectFour
from envs.core import Env, State, auto_reset
from envs.game_2048 import Game2048
from envs.go import Go
from envs.gomoku import Gomoku
from envs.hex import Hex
from envs.othello import Othello
from envs.tic_tac_toe import TicTacToe
from envs.treasure import Treasure
from envs.ur import Ur

GAMES: dict[str, type[Env]] = {
    "tic_tac_toe": TicTacToe,
    "connect_four": ConnectFour,
    "othello": Othello,
    "breakthrough": Breakthrough,
    "gomoku": Gomoku,
    "ur": Ur,
    "2048": Game2048,
    "treasure": Treasure,
    "backgammon": Backgammon,
    "hex": Hex,
    "chess": Chess,
    "go": Go,
}

__all__ = ["GAMES", "Env", "State", "auto_reset", "make", "suggest"]
KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


def suggest(word: str, known: list[str]) -> str:
    """The end of an error message about an unknown name: the nearest known name and the list of all."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    listing = f"known: {', '.join(known)}" if known else "it takes none"
    return f"did you mean {near[0]!r}? {listing}" if near else listing


def make(name: str, **options: Any) -> Env:
    """Builds a registered game, or one of Pgx by a name such as "pgx:shogi".

    Raises:
        ValueError: unknown name or option (with a suggestion), a value of another type, or one that the game refuses.
    """
    library, colon, rest = name.partition(":")
    if colon and library == "pgx":
        from envs.pgx import Pgx  # late: Pgx is optional

        if options:
            raise ValueError(f"game {name!r} has no option {next(iter(options))!r}; it takes none")
        return Pgx(rest)
    if name not in GAMES:
        raise ValueError(f"unknown game {name!r}; {suggest(name, list(GAMES))}")
    game = GAMES[name]
    fields = {field.name: field.type for field in dataclasses.fields(game)}  # pyright: ignore[reportArgumentType]
    for option, value in options.items():
        if option not in fields:
            raise ValueError(f"game {name!r} has no option {option!r}; {suggest(option, list(fields))}")
        kind = fields[option]
        if kind in KINDS and type(value) is not kind and (kind, type(value)) != (float, int):
            raise ValueError(f"{name}: {option} is {KINDS[kind]}, not {value!r}")
    return game(**options)
