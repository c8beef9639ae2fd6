"""Commands on games themselves: `check` their rules, `play` one."""

from typing import Annotated, Literal

from cyclopts import Parameter

from envs import GAMES
from jaxzero.cli.notices import notices
from jaxzero.cli.options import Seed, compiles, whole
from jaxzero.config.games import make_env
from jaxzero.config.schema import GameConfig


@compiles
def check(game: str = "", /, *, games: Annotated[int, whole(1, 10**5)] = 32) -> int:
    """Check the rules of a game: published counts of lines, moves and positions as text, the whole contract of games
    (legality, ends, rewards, symmetries, chance) on random play, and random games beside another implementation where
    one is installed. Exit status 1 if a check fails.

    Parameters
    ----------
    game
        A registered game, or FILE.py:FUNCTION for one of your own; all registered games if not given.
    games
        Random games of the contract, and beside another implementation.
    """
    configs = [GameConfig(source=game) if ".py:" in game else GameConfig(name) for name in ([game] if game else GAMES)]
    environments = [make_env(config) for config in configs]
    from jaxzero.runs import prechecks

    failed = 0
    for env in environments:
        for result in prechecks.full(env, games):
            failed += result.passed is False
            verdict = {True: "ok", False: "FAILED", None: "not compared"}[result.passed]
            print(f"{env.name}: {result.name} {verdict}: {result.detail} ({result.seconds:.1f} s)", flush=True)
    return int(failed > 0)


@compiles
def play(
    player: str,
    /,
    *,
    game: str = "",
    options: Annotated[dict[str, str] | None, Parameter(negative=())] = None,
    side: Literal["first", "second"] = "first",
    seed: Annotated[int | None, Seed] = None,
) -> None:
    """Play at the terminal, or through pipes, against a network or any other player: moves in the game's notation,
    hints, undo, records of the game.

    Parameters
    ----------
    player
        RUN[@STEP][:SIMULATIONS], a run's folder or name (0 simulations: its raw policy); or, with --game, another
        player such as minimax:4, mcts:200, perfect or random.
    game
        A registered game, or FILE.py:FUNCTION for one of your own; a run knows its game.
    options
        Options of the game, such as --options.size 7.
    side
        Yours.
    seed
        Of the dice; drawn if not given.
    """
    from jaxzero.play import terminal

    with notices():
        terminal.play(player, game, options or {}, ("first", "second").index(side), seed)
