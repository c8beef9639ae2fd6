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
from cyclopts import App, CycloptsError, Group, Parameter
from rich.table import Column, Table

import jaxzero
from envs import GAMES
from jaxzero import settings
from jaxzero.config import ConfigError, GameConfig
from jaxzero.games import make_env
from jaxzero.hardware import use_all_cores
from jaxzero.progress import Progress

app = App(name="jaxzero", version=jaxzero.__version__, help=jaxzero.__doc__, help_format="plaintext")


def main(tokens: Sequence[str] | None = None) -> int:
    """Runs a command line -> exit status; a mistake of the user is one line on stderr and status 2."""
    use_all_cores()
    try:
        return app(tokens, exit_on_error=False, print_error=False, result_action="return_value") or 0
    except ConfigError as error:
        message = str(error)
    except CycloptsError as error:
        message = f"{error} Add --help for the list of options."
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def raw_text(hint: Any, tokens: Sequence[Any]) -> str:
    """Leaves a value as text: `settings` parses it by the strict rules of files and environment."""
    return tokens[0].value


def raw_texts(hint: Any, tokens: Sequence[Any]) -> list[str]:
    return [token.value for token in tokens]


def whole_number(hint: Any, tokens: Sequence[Any]) -> int:
    # cyclopts itself would round 2.5.
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"expected a whole number, got {tokens[0].value!r}.") from None


Step = Annotated[int | None, Parameter(converter=whole_number)]


def option(name: str, field: settings.Field, group: Group) -> inspect.Parameter:
    """A setting as an option of the command line, None unless given."""
    kind = get_origin(field.hint) or field.hint
    parameter = Parameter(
        name=[f"--{name}", "--game"] if name == "game.source" else f"--{name}",
        help=field.help,
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


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
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
) -> None:
    """Train, or resume the run of that name.

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
    given = {key.replace("__", "."): value for key, value in options.items()}
    config = settings.resolve(preset, given, os.environ)
    env = make_env(config.game)
    # Late: mistakes above are reported before the slow imports.
    from jaxzero import train as training
    from jaxzero.validation import validate

    validate(config, env, jax.local_device_count())

    if dry_run:
        print(training.dry_run(config, env), end="")
        return
    with Progress(config.iterations) as progress, shown(progress):
        rows = training.run(config, env, allow_change=allow_change or (), from_step=from_step, overwrite=overwrite)
        for row in rows:
            progress.update(row)


@contextlib.contextmanager
def shown(progress: Progress) -> Iterator[None]:
    """Sends what the package logs to the terminal too, without tracebacks (run.log has them)."""
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: None if record.exc_info else progress.message(record.getMessage())
    logging.getLogger("jaxzero").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("jaxzero").removeHandler(handler)


@app.command
def export(run: str, /, *, step: Step = None, format: Literal["pt"] = "pt") -> None:
    """Write the network of a run to a file and print its path.

    Parameters
    ----------
    run
        A run's folder, or its name.
    step
        The checkpoint; the newest if not given.
    format
        pt: PyTorch.
    """
    from jaxzero import runs
    from jaxzero import train as training

    folder = runs.find(run)
    print(training.export_run(folder, step=step, format=format))


@app.command
def check(game: str = "", /, *, games: Annotated[int, Parameter(converter=whole_number)] = 32) -> int:
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
    if games < 1:
        raise ConfigError(f"--games: must be at least 1, got {games}")
    configs = [GameConfig(source=game) if ".py:" in game else GameConfig(name) for name in ([game] if game else GAMES)]
    environments = [make_env(config) for config in configs]
    from jaxzero import prechecks

    failed = 0
    for env in environments:
        for result in prechecks.full(env, games):
            failed += result.passed is False
            verdict = {True: "ok", False: "FAILED", None: "not compared"}[result.passed]
            print(f"{env.name}: {result.name} {verdict}: {result.detail} ({result.seconds:.1f} s)", flush=True)
    return int(failed > 0)


@app.command
def play(player: str, /, *, game: str = "", side: Literal["first", "second"] = "first", seed: Step = None) -> None:
    """Play at the terminal, or through pipes, against a network or any other player: moves in the game's notation,
    hints, undo, records of the game.

    Parameters
    ----------
    player
        RUN[@STEP][:SIMULATIONS], a run's folder or name (0 simulations: its bare policy); or, with --game, another
        player such as minimax:4, mcts:200, perfect or random.
    game
        A registered game, or FILE.py:FUNCTION for one of your own; a run knows its game.
    side
        Yours.
    seed
        Of the dice; drawn if not given.
    """
    at_least(0, seed=seed)
    from jaxzero import play as playing

    playing.play(player, game, ("first", "second").index(side), seed)


@app.command
def report(
    run: str,
    /,
    *,
    file: Path | None = None,
    games: Annotated[int, Parameter(converter=whole_number)] = 4,
    simulations: Step = None,
    opponent: str | None = None,
    step: Step = None,
    seed: Annotated[int, Parameter(converter=whole_number)] = 0,
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
    at_least(0, games=games, simulations=simulations, seed=seed)
    from jaxzero import report as reports
    from jaxzero import runs

    folder = runs.find(run)

    options = reports.Options(games, simulations, opponent, step, seed)
    path, notices = reports.write(folder, file, options)
    for notice in notices:
        print(f"{folder}: {notice}", file=sys.stderr)
    print(path)


def at_least(least: int, **options: int | None) -> None:
    """ConfigError naming the first option that is smaller."""
    for name, value in options.items():
        if value is not None and value < least:
            raise ConfigError(f"--{name}: must be at least {least}, got {value}")


@app.command
def presets() -> None:
    """List the presets and what they were measured to reach."""
    facts = ("hardware", "time", "strength")
    table = Table(Column("preset", no_wrap=True), "game", *facts)
    for name, path in settings.presets().items():
        header = settings.header(path)
        table.add_row(name, settings.load(path).game.name, *(header.get(fact, "") for fact in facts))
    rich.print(table)
