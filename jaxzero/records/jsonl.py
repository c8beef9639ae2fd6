"""JSON lines: records of any registered game, those with chance too, one object a line.

    {"game": "ur", "options": {"pieces": 3}, "start": "…", "moves": [0, 3, 1], "outcomes": [2, 0, 4], "result": [1, -1],
     "headers": {"player_1": "…"}}

Moves are actions; outcomes, of games with chance only, are what came after each of them, -1 where nothing was due.
`start`, the first position in the words of `env.to_text`, is needed there too, as a game may begin with a roll.
"""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import envs
from jaxzero.records.game import Entry, Game, Problem, sift

FIELDS = {field.name: field for field in dataclasses.fields(Game)}


def parse(file: str, text: str) -> tuple[list[Game], list[Problem]]:
    """The sound records of a file, and what is wrong with the others."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                game = read(line)
                entries.append(([number] * (len(game.moves) + 1), game))
            except (TypeError, ValueError) as error:
                problems.append(Problem(file, number, 0, " ".join(str(error).split())))
    games, broken = sift(file, entries, lambda game, action: f"action {action}")
    return games, sorted(problems + broken, key=lambda problem: problem.line)


def read(line: str) -> Game:
    """The record as written; ValueError if it is none."""
    try:
        content = json.loads(line)
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(content, dict) or not content.keys() >= {"game", "moves"}:
        raise ValueError("a record is an object with a game and its moves")
    if unknown := [name for name in content if name not in FIELDS]:
        raise ValueError(f"unknown field {unknown[0]!r}; {envs.suggest(unknown[0], list(FIELDS))}")
    game = Game(**{"options": {}, **content})
    check(game)
    result = None if game.result is None else tuple(map(float, game.result))
    return dataclasses.replace(game, result=result)


def check(game: Game) -> None:
    """ValueError if a field is not what it should be; the rules are asked later."""
    if not isinstance(game.options, dict) or not isinstance(game.headers, dict):
        raise ValueError("options and headers are objects")
    env = game.env
    if not whole(game.moves) or not (game.outcomes is None or whole(game.outcomes)):
        raise ValueError("moves and outcomes are lists of whole numbers")
    if (game.outcomes is not None) != (env.num_outcomes > 0):
        raise ValueError(f"outcomes are for games with chance, and needed there; {game.game} has {env.num_outcomes}")
    if game.outcomes is not None and (len(game.outcomes) != len(game.moves) or game.start is None):
        raise ValueError("a game with chance needs a start, and an outcome for each move (-1 for none)")
    if game.result is not None and len(list(map(float, game.result))) != env.num_players:
        raise ValueError(f"result is a list of {env.num_players} numbers")
    if game.start is not None:
        env.from_text(game.start)


def whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)


def dump(games: Iterable[Game]) -> str:
    """The games as lines of a file."""
    records = [{name: value for name, value in vars(game).items() if value not in (None, {})} for game in games]
    return "".join(json.dumps(record) + "\n" for record in records)
