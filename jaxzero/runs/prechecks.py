"""Checks of a game before training: `jaxzero check`, and a quick form before every run."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import envs
from envs import Env, host
from envs.contract import check_contract
from envs.judges import NoJudgeError, compare, judge_of
from envs.perft import KNOWN, perft
from jaxzero import files
from jaxzero.messages import ConfigError

FILE = "prechecks.json"
QUICK_LINES, LINES = 10_000, 1_000_000  # longest count of lines, quick and full
QUICK_PLIES = 12


class Check(NamedTuple):
    """One check: what it was, whether the game passed, what was found, how long it took in seconds."""

    name: str
    passed: bool | None  # None: there was nothing to check it with
    detail: str
    seconds: float


def quick(env: Env) -> Iterator[Check]:
    """Seconds: lines of play counted, moves and positions written and read back along one random game."""
    yield timed("perft", lambda: count_lines(env, QUICK_LINES))
    yield timed("round trip", lambda: round_trip(env))


def full(env: Env, games: int) -> Iterator[Check]:
    """The contract on random games (types, legality, ends, symmetries, strings, chance), longer counts, and play beside
    another implementation."""
    yield timed("perft", lambda: count_lines(env, LINES))
    yield timed("round trip", lambda: round_trip(env))
    yield timed("contract", lambda: contract(env, games))
    yield timed("differential play", lambda: differential_play(env, games))


def timed(name: str, check: Callable[[], str]) -> Check:
    begin = time.perf_counter()
    try:
        passed, detail = True, check()
    except AssertionError as error:
        passed, detail = False, "; ".join(str(error).splitlines())
    except NotImplementedError as error:  # of a game's method that is not there
        passed, detail = False, str(error)
    except NoJudgeError as error:
        passed, detail = None, str(error)
    return Check(name, passed, detail, round(time.perf_counter() - begin, 3))


def count_lines(env: Env, most: int) -> str:
    """Perft against published counts, of the game without options."""
    known = KNOWN.get(env.name, ()) if env.name in envs.GAMES and env == envs.make(env.name) else ()
    depths = [depth for depth, count in enumerate(known, 1) if count <= most]
    first = env.init(jax.random.key(0))
    for depth in depths:
        count, wanted = perft(env, first, depth), known[depth - 1]
        assert count == wanted, f"{env.name} has {count} lines of {depth} plies, not {wanted}"
    return f"published counts to depth {len(depths)}" if depths else "no published counts"


def round_trip(env: Env) -> str:
    """Every legal action of some positions to text and back, and the positions themselves."""
    random = np.random.default_rng(0)
    keys = iter(jax.random.split(jax.random.key(0), QUICK_PLIES + 1))
    state = env.init(next(keys))
    moves = positions = 0
    for _ in range(QUICK_PLIES):
        if state.terminated:
            break
        legal = np.flatnonzero(np.asarray(host.legal_actions(env, state)))
        names = [env.action_to_str(state, int(action)) for action in legal]
        assert len(set(names)) == len(names), f"{env.name}: two legal actions are written alike among {names}"
        action = int(random.choice(legal))
        name = env.action_to_str(state, action)
        read = env.action_from_str(state, name)
        assert read == action, f"{env.name}: action {action} is written {name!r}, which is read as {read}"
        text = env.to_text(state)
        assert env.to_text(env.from_text(text)) == text, f"{env.name}: position {text!r} is read as another"
        moves, positions = moves + len(legal), positions + 1
        state, _ = host.advance(env, state, np.int32(action), next(keys))
    return f"{moves} moves, {positions} positions"


def contract(env: Env, games: int) -> str:
    check_contract(env, games)
    return f"{games} random games, {len(env.symmetries)} symmetries"


def differential_play(env: Env, games: int) -> str:
    """Legal actions, mover, rewards and end at every ply of random games, beside another implementation."""
    found = compare(env, judge_of(env), games)
    differ = found.games - found.whole
    apart = f", {differ} of them until a known difference of rules" if differ else ""
    return f"{found.games} random games as in open_spiel{apart}, {found.plies} plies"


def passed(folder: Path) -> bool:
    """Whether the game of this run has passed before; what cannot be read does not count."""
    with contextlib.suppress(ConfigError):
        kept = files.read_json(folder / FILE, {"passed": bool})
        return kept is not None and kept["passed"]
    return False


def record(folder: Path, env: Env, checks: list[Check]) -> None:
    """Writes `prechecks.json` into a run's folder."""
    result = {"game": repr(env), "passed": all(check.passed is not False for check in checks)}
    result["checks"] = [check._asdict() for check in checks]
    files.check_regular(folder / FILE)
    files.write(folder / FILE, json.dumps(result, indent=2) + "\n")
