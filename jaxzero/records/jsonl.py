"""JSON lines: records of any game, those with chance too, one object a line.

    {"game": "ur", "options": {"pieces": 3}, "moves": [0, 3, 1], "result": [1, -1], "headers": {"player_1": "…"},
     "start": "…", "outcomes": [2, 0, 4]}

Moves are actions; outcomes, of games with chance only, are what came after each of them, -1 where nothing was due.
`start`, the first position in the words of `env.to_text`, is needed where games do not all begin alike. `result` is
what each player has earned; of two players one wins what the other loses, in registered games at most 1. A game of
one's own is named FILE.py:FUNCTION, and reading its records runs that file.
"""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import envs
from envs.core import begins_alike
from jaxzero.messages import shortened
from jaxzero.records import game as game_lib
from jaxzero.records.game import Entry, Game, Problem, Replayed, checked_game, first_state, loosened

FIELDS = [field.name for field in dataclasses.fields(Game) if field.compare]


def collect(file: str, text: str, line: int = 1) -> tuple[list[Entry], list[Problem]]:
    """The records of a text that begins in that line of the file, and what is wrong with the others."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    known: dict[str, envs.Env] = {}
    for number, words in enumerate(text.split("\n"), line):
        if words.strip():
            try:
                game = dataclasses.replace(read(words, known), line=number)
                entries.append(Entry(file, [number] * (len(game.moves) + 1), game))
            except Exception as error:  # a game of one's own may raise anything
                said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                problems.append(Problem(file, number, 0, said))
    return entries, problems


def sift(entries: Sequence[Entry]) -> list[Game | Problem]:
    return game_lib.sift(entries, checked)


def checked(entry: Entry, outcome: Replayed) -> Game | Problem:
    return checked_game(entry, outcome, lambda game, action: f"action {shortened(str(action), 20)}")


def read(line: str, known: dict[str, envs.Env]) -> Game:
    """The record as written; ValueError if it is none. Games that are made, as `loosened`, are kept in `known`."""
    content = load(line)
    if not isinstance(content, dict) or not content.keys() >= {"game", "moves"}:
        raise ValueError("a record is an object with a game and its moves")
    if unknown := [name for name in content if name not in FIELDS]:
        raise ValueError(f"unknown field {unknown[0][:30]!r}; {envs.suggest(unknown[0][:30], FIELDS)}")
    game = Game(**{"options": {}, **content})
    check_game(game)
    name = json.dumps([game.game, game.options])
    if name not in known:
        known[name] = loosened(game.env)[0]
    check(game, known[name])
    return dataclasses.replace(game, result=None if game.result is None else tuple(map(float, game.result)))


def load(line: str) -> Any:
    """The JSON of a line; ValueError if it is none, or has more than JSON allows."""
    try:
        line.encode()
    except UnicodeEncodeError as error:
        raise ValueError("no UTF-8 text") from error
    try:
        return json.loads(line, object_pairs_hook=once, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("no JSON record: nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from error


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a field stands there twice")
    return content


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def check_game(game: Game) -> None:
    if not isinstance(game.game, str) or not words(game.options, (str, int, float)):
        raise ValueError("game is a name, options are its options by name, such as 7, true or 'simple'")
    if wild := [name for name, value in game.options.items() if not isinstance(value, str) and abs(value) >= 2.0**53]:
        raise ValueError(f"option {wild[0]} is too large a number")


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
    if game.result is not None:
        check_result(game, env)
    if game.start is not None:
        if not isinstance(game.start, str):
            raise ValueError("start is a text")
        first_state(env, game.start)
    elif not begins_alike(env):
        raise ValueError(f"games of {game.game} do not all begin alike: start must tell how this one does")


def check_result(game: Game, env: envs.Env) -> None:
    result: Any = game.result
    if not isinstance(result, list) or len(result) != env.num_players or not all(map(finite, result)):
        raise ValueError(f"result is a list of {env.num_players} numbers")
    if env.num_players == 2 and abs(sum(result)) > 1e-6:
        raise ValueError(f"one player wins what the other loses, which is not the result {result}")
    if env.num_players == 2 and game.game in envs.GAMES and max(result) > 1:
        raise ValueError(f"a game is worth 1 at most, which is not the result {result}")


def finite(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and abs(number) <= sys.float_info.max


def words(fields: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(fields, dict) and all(isinstance(value, kinds) for value in fields.values())


def whole(numbers: Any) -> bool:
    return isinstance(numbers, list) and set(map(type, numbers)) <= {int}


def dump(games: Iterable[Game]) -> str:
    """The games as lines of a file.

    Raises:
        ValueError: a number that is none.
    """
    fields = [{name: getattr(game, name) for name in FIELDS} for game in games]
    records = [{name: value for name, value in record.items() if value not in (None, {})} for record in fields]
    return "".join(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in records)
