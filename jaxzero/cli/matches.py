"""Commands that measure players: `match`, `evaluate`, `rate`."""

from pathlib import Path
from typing import Annotated

import rich
from cyclopts import Parameter
from rich.table import Column, Table

from jaxzero.cli.notices import notices
from jaxzero.cli.options import Games, Plies, Seed, Simulations, compiles, whole
from jaxzero.messages import ConfigError


@compiles
def match(
    a: str,
    b: str,
    /,
    *,
    game: str = "",
    options: Annotated[dict[str, str] | None, Parameter(negative=())] = None,
    games: Games = 100,
    opening_plies: Annotated[int, Plies] = 4,
    seed: Annotated[int, Seed] = 0,
    at_once: Annotated[int | None, whole(2, 65_536)] = None,
    sprt: Annotated[bool, Parameter(negative=())] = False,
    elo0: float = 0.0,
    elo1: float = 20.0,
    alpha: float = 0.05,
    beta: float = 0.05,
    out: str = "arena",
    record: str = "",
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Play two players against each other, every opening from both sides, and write down how it ended.

    Players are random, greedy, minimax:DEPTH, mcts:SIMULATIONS, perfect (small games and Connect Four),
    uci:PROGRAM[:OPTION=VALUE,...], gtp:PROGRAM[:OPTION=VALUE,...] or RUN[@STEP][:SIMULATIONS].

    Parameters
    ----------
    a
        The player that the results are about.
    b
        Its opponent.
    game
        A registered game, or FILE.py:FUNCTION for one of your own; that of the run if a player is one.
    options
        Options of the game, such as --options.size 7.
    games
        Games to play, an even number; with --sprt at most so many.
    opening_plies
        Each pair of games begins with 0 to so many random plies.
    seed
        Seed of every random choice.
    at_once
        Games of a round, which are played at the same time; 2048, and 256 with --sprt, if not given.
    sprt
        Stop as soon as a sequential probability ratio test has decided between elo0 and elo1 (after each round of
        games: see --at-once).
    elo0
        SPRT: Elo difference of H0.
    elo1
        SPRT: Elo difference of H1.
    alpha
        SPRT: probability to accept H1 where H0 holds.
    beta
        SPRT: probability to accept H0 where H1 holds.
    out
        Folder of arena.csv, to which a line is added, and of last_arena.json.
    record
        Write all games to this file: .jsonl (any game), .pgn (chess), .sgf (Go) or .trmph (Hex).
    overwrite
        Write over an existing file of --record.
    """
    from jaxzero.evaluation import arena, match_log
    from jaxzero.evaluation.sprt import Sprt

    test = Sprt(elo0, elo1, alpha, beta) if sprt else None
    played = arena.Match(games, opening_plies, seed, (256 if sprt else 2048) if at_once is None else at_once, test)
    arena.check(played)
    config = arena.game_of(game, options or {}, (a, b))
    match_log.check(Path(out))
    if record:
        match_log.check_record(Path(record), config, overwrite)
    with notices():
        facts = arena.run(config, a, b, played, Path(out), Path(record) if record else None)
    print(arena.describe(facts))


@compiles
def evaluate(
    run: str,
    /,
    *,
    iteration: str = "latest",
    games: Games = 100,
    opponent: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    simulations: Simulations = None,
    opening_plies: Annotated[int | None, Plies] = None,
    seed: Annotated[int, Seed] = 0,
) -> None:
    """Play the network of a run against opponents; results go to evaluations/iteration_N of the run.

    Parameters
    ----------
    run
        A run's folder, or its name.
    iteration
        The checkpoint: latest, best or a number.
    games
        Games against each opponent, an even number.
    opponent
        One or more players as `jaxzero match` takes them; those of the run's evaluation.opponents if not given.
    simulations
        Simulations a move, 0 for the raw policy; evaluation.simulations of the run if not given.
    opening_plies
        Random plies before each game, at most; evaluation.opening_plies of the run if not given.
    seed
        Seed of every random choice.
    """
    from jaxzero.evaluation import arena
    from jaxzero.runs import folder as folder_lib

    folder = folder_lib.find(run)
    with notices():
        for facts in arena.evaluate(folder, iteration, games, opponent, simulations, opening_plies, seed):
            print(arena.describe(facts), flush=True)


@compiles
def rate(
    *names: str,
    anchors: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    games: Games = 100,
    simulations: Simulations = None,
    opening_plies: Annotated[int, Plies] = 4,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Rate every checkpoint of runs of one game, and anchors: matches, then one Bradley-Terry fit of all results.

    The table gives Elo with 95 % intervals, the first anchor being 0. Kept in the first run's folder: ratings.json
    (what was played too: another call plays only what is new) and elo.png.

    Parameters
    ----------
    names
        Folders or names of runs.
    anchors
        Players to measure by, such as greedy, mcts:64, perfect or another run; random and minimax:2 if not given.
    games
        Games of every two that meet: checkpoints that follow each other, and each of them with every anchor.
    simulations
        Simulations a move, 0 for the raw policy; each run's evaluation.simulations if not given.
    opening_plies
        Each game starts after 0 to this many random plies, and each opening is played from both sides.
    overwrite
        Forget what was played before.
    """
    if not names:
        raise ConfigError("rate: name one run or more")
    from jaxzero.runs import folder as folder_lib

    folders = [folder_lib.find(name) for name in names]
    from jaxzero.evaluation.rate import RateOptions, rate

    given = {} if anchors is None else {"anchors": tuple(anchors)}
    rows = rate(folders, RateOptions(games=games, simulations=simulations, opening_plies=opening_plies,
                                 overwrite=overwrite, **given))  # fmt: skip
    numbers = ("Elo", "95 %", "games", "score", "gain")
    table = Table(Column("player", overflow="fold"), *(Column(name, justify="right") for name in numbers))
    for row in rows:
        low, high = row["interval"]
        gain = row.get("gain")
        shown = f"{gain['elo']:+.0f} ({gain['interval'][0]:+.0f} to {gain['interval'][1]:+.0f})" if gain else ""
        elo = f"{row['elo']:.0f}", f"{low:.0f} to {high:.0f}"
        table.add_row(row["player"], *elo, str(row["games"]), f"{row['score']:.1%}", shown)
    rich.print(table)
