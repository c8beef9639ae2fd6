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
from jaxzero.config import settings
from jaxzero.config.games import make_env
from jaxzero.runs.progress import Progress


@compiles
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
    for name, path in settings.presets().items():
        header = settings.header(path)
        table.add_row(name, settings.load(path).game.name, *(header.get(fact, "") for fact in facts))
    rich.print(table)
