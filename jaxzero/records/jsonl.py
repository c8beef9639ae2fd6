"""JSON lines: records of any game, those with chance too, one object a line.

    {"game": "ur", "options": {"pieces": 3}, "moves": [0, 3, 1], "result": [1, -1], "headers": {"player_1": "…"},
     "start": "…", "outcomes": [2, 0, 4]}

Moves are actions; outcomes, of games with chance only, are what came after each of them, -1 where nothing was due.
`start`, the first position in the words of `env.to_text`, is needed where games do not all begin alike. A game of one's
own is named FILE.py:FUNCTION, and reading its records runs that file.
"""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import envs
from envs.core import begins_alike
from jaxzero.records.game import Entry, Game, Problem, sift

FIELDS = [field.name for field in dataclasses.fields(Game)]


def parse(file: str, text: str) -> tuple[list[Game], list[Problem]]:
    """The sound records of a file, and what is wrong with the others."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    known: dict[str, envs.Env] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                game = read(line, known)
                entries.append(([number] * (len(game.moves) + 1), game))
            except (TypeError, ValueError) as error:
                problems.append(Problem(file, number, 0, " ".join(str(error).split())))
    games, broken = sift(file, entries, lambda game, action: f"action {action}")
    return games, sorted(problems + broken, key=lambda problem: problem.line)


def read(line: str, known: dict[str, envs.Env]) -> Game:
    """The record as written; ValueError if it is none. Games that are made are kept in `known`."""
    try:
        content = json.loads(line)
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(content, dict) or not content.keys() >= {"game", "moves"}:
        raise ValueError("a record is an object with a game and its moves")
    if unknown := [name for name in content if name not in FIELDS]:
        raise ValueError(f"unknown field {unknown[0]!r}; {envs.suggest(unknown[0], FIELDS)}")
    game = Game(**{"options": {}, **content})
    name = json.dumps([game.game, game.options])
    if name not in known:
        check_game(game)
        known[name] = game.env
    check(game, known[name])
    return dataclasses.replace(game, result=None if game.result is None else tuple(map(float, game.result)))


def check_game(game: Game) -> None:
    if not isinstance(game.game, str) or not words(game.options, (str, int, float)):
        raise ValueError("game is a name, options are its options by name, such as 7, true or 'simple'")


def check(game: Game, env: envs.Env) -> None:
    """ValueError if a field is not what it should be; the rules are asked later."""
    if not words(game.headers, (str,)):
        raise ValueError("headers are texts by name")
    if not whole(game.moves) or not (game.outcomes is None or whole(game.outcomes)):
        raise ValueError("moves and outcomes are lists of whole numbers")
    if (game.outcomes is not None) != (env.num_outcomes > 0):
        raise ValueError(f"outcomes are for games with chance, and needed there; {game.game} has {env.num_outcomes}")
    if game.outcomes is not None and len(game.outcomes) != len(game.moves):
        raise ValueError("a game with chance needs an outcome for each move (-1 for none)")
    if game.result is not None and len(list(map(float, game.result))) != env.num_players:
        raise ValueError(f"result is a list of {env.num_players} numbers")
    if game.start is not None:
        env.from_text(str(game.start))
    elif not begins_alike(env):
        raise ValueError(f"games of {game.game} do not all begin alike: start must tell how this one does")


def words(fields: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(fields, dict) and all(isinstance(value, kinds) for value in fields.values())


def whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)


def dump(games: Iterable[Game]) -> str:
    """The games as lines of a file."""
    records = [{name: value for name, value in vars(game).items() if value not in (None, {})} for game in games]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
