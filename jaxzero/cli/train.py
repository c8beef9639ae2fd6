"""Commands that train: `train` itself, and `presets`."""

import os
from typing import Annotated, Any

import jax
import rich
from cyclopts import Parameter
from rich.table import Column, Table

from jaxzero import interrupts
from jaxzero.cli.notices import shown
from jaxzero.cli.options import Step, compiles, with_settings
from jaxzero.config import presets as presets_lib
from jaxzero.config import resume as resume_lib
from jaxzero.config import settings
from jaxzero.config.games import make_env
from jaxzero.config.resume import check_allowed
from jaxzero.config.schema import Config
from jaxzero.messages import shortened
from jaxzero.runs.progress import Progress


@with_settings
@compiles
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

    Every setting is an option. It overrides the environment (JAXZERO_SEARCH_SIMULATIONS=64,
    JAXZERO_EVALUATION_OPPONENTS=random,greedy), which overrides the preset, which overrides the defaults.

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
    check_allowed(allow_change or ())
    config = settings.resolve(preset, dotted(options), os.environ)
    if not overwrite:
        config, own = resume_lib.with_settings_of_run(config, preset, dotted(options), os.environ)
        if own:
            print(f"as the run itself, unlike the preset: {shortened('; '.join(own), 300)}")
    return start(config, dry_run, from_step, overwrite, allow_change)


@with_settings
@compiles
def resume(
    run: str,
    /,
    *,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    from_step: Step = None,
    allow_change: Annotated[list[str] | None, Parameter(consume_multiple=True, negative_iterable=())] = None,
    **options: Any,
) -> int | None:
    """Go on with a run, with its own settings. Every setting of `jaxzero train` is an option.

    Parameters
    ----------
    run
        A run's folder, or its name.
    dry_run
        Show the resolved settings, parameters and memory; start nothing.
    from_step
        Go on from this checkpoint instead of the newest; newer ones are set aside.
    allow_change
        Settings or sections that may change, such as learner.lr.
    """
    from jaxzero.runs import folder as folder_lib  # late: a slow import

    check_allowed(allow_change or ())
    folder = folder_lib.find(run)
    place = {"name": folder.resolve().name, "root": str(folder.parent)}
    config = settings.resolve(str(folder / folder_lib.CONFIG), dotted(options) | place, os.environ)
    return start(config, dry_run, from_step, False, allow_change)


def dotted(options: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("__", "."): value for key, value in options.items()}


def start(
    config: Config, dry_run: bool, from_step: int | None, overwrite: bool, allow_change: list[str] | None
) -> int | None:
    """Trains, with progress, or shows what would be."""
    env = make_env(config.game)
    # Late: mistakes above are reported before the slow imports.
    from jaxzero.config.validation import validate

    validate(config, env, jax.local_device_count())
    from jaxzero.training import train as train_lib

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


def presets() -> None:
    """List the presets and what they were measured to reach."""
    facts = ("hardware", "time", "strength")
    table = Table(*(Column(name, no_wrap=True) for name in ("preset", "game")), *facts)
    for name, path in presets_lib.files().items():
        header = presets_lib.header(path)
        table.add_row(name, settings.load(path).game.name, *(header.get(fact, "") for fact in facts))
    rich.print(table)
