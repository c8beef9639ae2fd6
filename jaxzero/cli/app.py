"""The `jaxzero` command. Parsing only: every command calls one function of the package."""

import contextlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

import jax
import rich
from cyclopts import App, CycloptsError, Group, Parameter, UnusedCliTokensError
from rich.table import Column, Table

import jaxzero
from envs import GAMES, suggest
from jaxzero import interrupts, streams
from jaxzero.config import settings
from jaxzero.config.games import make_env
from jaxzero.config.schema import ConfigError, GameConfig, Range
from jaxzero.files import shortened
from jaxzero.hardware import use_all_cores
from jaxzero.runs.progress import Progress

app = App(
    name="jaxzero",
    version=jaxzero.__version__,
    help=jaxzero.__doc__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.command("jaxzero.cli.data:data", name="data", help="Games and positions on disk, stage by stage.")


def main(tokens: Sequence[str] | None = None) -> int:
    """Runs a command line -> exit status. A mistake of the user is one line on stderr and status 2; SIGINT, SIGTERM and
    SIGHUP are one line and status 128 + the signal's number."""
    use_all_cores()
    try:
        with interrupts.Interrupt():
            status = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        if status is not None or not (problem := streams.lost(sys.stdout)):
            return status or 0
        message = f"stdout: {problem}; what was to be shown is lost"
    except KeyboardInterrupt:
        if line := interrupts.current.last_line():
            print(line, file=sys.stderr)
        return interrupts.current.status
    except ConfigError as error:
        message = str(error)
    except UnusedCliTokensError as error:
        left = shortened(" ".join(error.unused_tokens or []))
        message = f"nothing here takes {left!r}; a switch has no value: --name turns it on, --no-name off"
    except CycloptsError as error:
        message = f"{shortened(str(error), 300)} Add --help for the list of options."
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def raw_text(hint: Any, tokens: Sequence[Any]) -> str:
    """Leaves a value as text: `settings` parses it by the strict rules of files and environment."""
    return tokens[0].value


def raw_texts(hint: Any, tokens: Sequence[Any]) -> list[str]:
    return [token.value for token in tokens]


def whole(low: int, high: int) -> Parameter:
    """A whole number within bounds; cyclopts itself would round 2.5."""
    bounds = Range(low, high)

    def convert(hint: Any, tokens: Sequence[Any]) -> int:
        try:
            return settings.whole_number(tokens[0].value, bounds)
        except ValueError as error:
            raise ValueError(f"{error}.") from None

    return Parameter(converter=convert)


ALIASES = {"game.source": ["--game"], "init_from": ["--init-from"]}
Step = Annotated[int | None, whole(0, 10**9)]
Games = Annotated[int, whole(2, 10**6)]
Plies = whole(0, 65_536)
Simulations = Annotated[int | None, whole(0, 32_766)]
Seed = whole(0, 2**32 - 1)


def option(name: str, field: settings.Field, group: Group) -> inspect.Parameter:
    """A setting as an option of the command line, None unless given."""
    kind = get_origin(field.hint) or field.hint
    parameter = Parameter(
        name=[f"--{name}", *ALIASES.get(name, ())],
        help=f"{field.help} {field.range.sentence}" if field.range else field.help,
        show_default=settings.toml(field.default),
        group=group,
        converter={bool: None, dict: None, tuple: raw_texts}.get(kind, raw_text),
        consume_multiple=kind is tuple,
        negative_iterable=(),
    )
    hint = dict[str, str] if kind is dict else field.hint
    return inspect.Parameter(
        name.replace(".", "__"),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[hint | None, parameter],
    )


def with_settings(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Gives a command an option for every setting in place of its `**options`."""
    groups = {section: Group.create_ordered(section or "run") for section in ("", *settings.sections())}
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [option(name, field, groups[field.section]) for name, field in settings.fields().items()]
    command.__signature__ = signature.replace(parameters=own + options)  # pyright: ignore[reportFunctionMemberAccess]
    return command


@app.command
@with_settings
def train(
    preset: str,
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    from_step: Step = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    allow_change: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    **options: Any,
) -> int | None:
    """Train, or resume the run of that name.

    Ctrl-C, SIGTERM and SIGHUP let it finish the iteration under way and save it; a second Ctrl-C stops it at once. The
    exit status is then 130, 143 or 129, and the same command goes on.

    Every setting below is an option; it overrides the environment (JAXZERO_SEARCH_SIMULATIONS=64,
    JAXZERO_NETWORK_SIZES=64,64), which overrides the preset, which overrides the defaults shown.

    Parameters
    ----------
    preset
        A preset (see `jaxzero presets`) or a TOML file.
    dry_run
        Show the resolved settings, parameters and memory; start nothing.
    from_step
        Resume from this checkpoint instead of the newest.
    overwrite
        Delete an existing run of that name and start again.
    allow_change
        Settings or sections that a resume may change, such as learner.lr.
    """
    settings.check_allowed(allow_change or ())
    given = {key.replace("__", "."): value for key, value in options.items()}
    config = settings.resolve(preset, given, os.environ)
    env = make_env(config.game)
    # Late: mistakes above are reported before the slow imports.
    from jaxzero.config.validation import validate
    from jaxzero.training import train as train_lib

    validate(config, env, jax.local_device_count())

    if dry_run:
        print(train_lib.dry_run(config, env), end="")
        return None
    with Progress(config.iterations) as progress, shown(progress):
        rows = train_lib.run(config, env, allow_change=allow_change or (), from_step=from_step, overwrite=overwrite)
        for row in rows:
            progress.update(row)
    if interrupts.current.number:
        raise KeyboardInterrupt
    return 0  # also where stdout is lost: the run itself is what was asked for


@contextlib.contextmanager
def shown(progress: Progress) -> Iterator[None]:
    """Sends what the package logs to the terminal too, without tracebacks (run.log has them); after an interruption
    `main` says the last line."""
    handler = logging.Handler(logging.INFO)
    handler.addFilter(lambda record: not record.exc_info and not interrupts.current.number)
    handler.emit = lambda record: progress.message(record.getMessage())
    logging.getLogger("jaxzero").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("jaxzero").removeHandler(handler)


@app.command
def export(
    run: str,
    /,
    *,
    step: Step = None,
    format: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    half: Annotated[bool, Parameter(negative=())] = False,
    int8: Annotated[bool, Parameter(negative=())] = False,
    licence: str = "",
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    promoted: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write the network of a run to files in its folder exports/, each compared with the JAX network on 1,280 positions
    of self-play before it appears, and print their paths and certificates.

    Parameters
    ----------
    run
        A run's folder, or its name.
    step
        The checkpoint; the newest if not given.
    format
        One or more of pt (PyTorch weights; the default), pt2 (PyTorch program), onnx, safetensors, json, stablehlo.
    half
        float16: stored only (pt, safetensors, json, stablehlo), or for arithmetic too (pt2, onnx).
    int8
        onnx in 8 bits, its ranges taken from positions of self-play.
    licence
        Licence of the weights for their card; export.licence of the run if not given.
    overwrite
        Replace files of the same name that hold another network.
    promoted
        The network that was promoted by then (promotion.rule) instead of the latest.
    """
    from jaxzero.export import publish
    from jaxzero.runs import folder as folder_lib

    folder = folder_lib.find(run)
    given = {"half": half, "int8": int8, "licence": licence, "overwrite": overwrite, "promoted": promoted}
    with notices("jaxzero.export"):
        lines = publish.export_run(folder, step, ["pt"] if format is None else format, **given)
    print("\n".join(lines))


@app.command
def convert(
    source: str,
    target: str = "",
    /,
    *,
    test: Annotated[bool, Parameter(negative=())] = False,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write an exported .pt, .safetensors or .json file in another format of `jaxzero export`, or test it.

    Parameters
    ----------
    source
        The file.
    target
        The file to write; its ending names the format.
    test
        Compare what the file computes with the JAX network of its weights, on positions of self-play; programs (.pt2,
        .onnx, .stablehlo) always are.
    overwrite
        Replace a file that is there.
    """
    from jaxzero.export import convert as convert_lib

    for line in convert_lib.convert(source, target or None, test=test, overwrite=overwrite):
        print(line)


@app.command
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
    from jaxzero.evaluation import arena, books
    from jaxzero.evaluation.sprt import Sprt

    test = Sprt(elo0, elo1, alpha, beta) if sprt else None
    played = arena.Match(games, opening_plies, seed, (256 if sprt else 2048) if at_once is None else at_once, test)
    arena.check(played)
    config = arena.game_of(game, options or {}, (a, b))
    books.check_book(Path(out))
    if record:
        books.check_record(Path(record), config, overwrite)
    with notices():
        facts = arena.run(config, a, b, played, Path(out), Path(record) if record else None)
    print(arena.describe(facts))


@contextlib.contextmanager
def notices(name: str = "jaxzero") -> Iterator[None]:
    """Sends what the package, or one of its parts, warns of to stderr, a line each."""
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: print(record.getMessage(), file=sys.stderr, flush=True)
    log = logging.getLogger(name)
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False  # libraries may have given the root logger a handler of its own
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = True


@app.command
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
        Simulations a move, 0 for the bare policy; evaluation.simulations of the run if not given.
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


@app.command
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
        Simulations a move, 0 for the bare policy; each run's evaluation.simulations if not given.
    opening_plies
        Each game starts after 0 to this many random plies, and each opening is played from both sides.
    overwrite
        Forget what was played before.
    """
    if not names:
        raise ConfigError("rate: name one run or more")
    from jaxzero.runs import folder as folder_lib

    folders = [folder_lib.find(name) for name in names]
    from jaxzero.evaluation.rate import Options, rate

    given = {} if anchors is None else {"anchors": tuple(anchors)}
    rows = rate(folders, Options(games=games, simulations=simulations, opening_plies=opening_plies,
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


@app.command
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


@app.command
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
        RUN[@STEP][:SIMULATIONS], a run's folder or name (0 simulations: its bare policy); or, with --game, another
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


@app.command
def report(
    run: str,
    /,
    *,
    file: Path | None = None,
    games: Annotated[int, whole(0, 1000)] = 4,
    simulations: Simulations = None,
    opponent: str | None = None,
    step: Step = None,
    seed: Annotated[int, Seed] = 0,
) -> None:
    """Write a run as one HTML file that needs nothing else, and print its path: settings, learning curves, results,
    sample games to step through. A report that is there already is replaced.

    Parameters
    ----------
    run
        A run's folder, or its name.
    file
        The file; report.html in the run's folder if not given.
    games
        Sample games: half of them against itself.
    simulations
        Simulations a move in them; those of the run's evaluation if not given, 0 = bare policy.
    opponent
        Plays the other half; the strongest of the run's evaluation if not given, "" for none.
    step
        The checkpoint that plays; the newest if not given.
    seed
        Of random openings and dice.
    """
    from jaxzero import report as report_lib
    from jaxzero.runs import folder as folder_lib

    folder = folder_lib.find(run)

    options = report_lib.Options(games, simulations, opponent, step, seed)
    path, notices = report_lib.write(folder, file, options)
    for notice in notices:
        print(f"{folder}: {notice}", file=sys.stderr)
    print(path)


@app.command
def compare(
    *names: str,
    key: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    file: Path = Path("comparison.png"),
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Draw the curves of runs beside each other, by training time and by games played, and print the picture's path.

    Parameters
    ----------
    names
        Folders or names of runs.
    key
        One or more numbers of metrics.jsonl; the scores of all evaluations if not given.
    file
        The PNG file.
    overwrite
        Replace a file that is there.
    """
    from jaxzero import files
    from jaxzero.runs import folder as folder_lib
    from jaxzero.runs import metrics, plot
    from jaxzero.runs.checkpoint import check_writable

    folders = [folder_lib.find(name) for name in names]
    names_of_runs = {folder.name for folder in folders}
    if len(names_of_runs) < 2 or len(names_of_runs) < len(names):
        raise ConfigError("compare: name two runs or more, of different names")
    rows = {}
    for folder in folders:
        rows[folder.name], skipped = metrics.examine(folder)
        if skipped:
            print(skipped, file=sys.stderr)
    known = {name: None for run in rows.values() for row in run for name in row}
    keys = key or [name for name in known if name.startswith("eval/") and name.endswith("/score")]
    if unknown := [name for name in keys if name not in known]:
        raise ConfigError(f"--key: {unknown[0]!r} is in none of these runs; {suggest(unknown[0], list(known))}")
    if not keys:
        raise ConfigError("compare: these runs have no evaluations yet; give a number of their metrics.jsonl as --key")
    check_writable(file.parent)
    files.check_target(file, "--file", overwrite)
    with files.reported(file):
        plot.comparison(rows, keys, file)
    print(file)


@app.command
def presets() -> None:
    """List the presets and what they were measured to reach."""
    facts = ("hardware", "time", "strength")
    table = Table(*(Column(name, no_wrap=True) for name in ("preset", "game")), *facts)
    for name, path in settings.presets().items():
        header = settings.header(path)
        table.add_row(name, settings.load(path).game.name, *(header.get(fact, "") for fact in facts))
    rich.print(table)
