"""The `jaxzero` command. Parsing only: every command calls one function of the package."""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnknownOptionError, UnusedCliTokensError

import jaxzero
from jaxzero import interrupts, streams
from jaxzero.messages import ConfigError, shortened

COMMANDS = {  # module: name and line of its commands in `jaxzero --help`
    "train": {
        "train": "Train, or resume the run of that name.",
        "resume": "Go on with a run.",
        "presets": "List the presets and what they were measured to reach.",
    },
    "weights": {
        "export": "Write the network of a run to files.",
        "convert": "Write an exported file in another format, or test it.",
    },
    "matches": {
        "match": "Play two players against each other.",
        "evaluate": "Play the network of a run against opponents.",
        "rate": "Rate every checkpoint of runs of one game.",
    },
    "games": {
        "check": "Check the rules of a game.",
        "play": "Play at the terminal, or through pipes.",
    },
    "results": {
        "runs": "List the runs of a folder.",
        "report": "Write a run as one HTML file.",
        "compare": "Draw the curves of runs beside each other.",
    },
    "data": {
        "data": "Games and positions on disk, stage by stage.",
    },
}


def make_app(asked: str = "") -> App:
    """The command line. A command's module is imported only where that command is asked for: they import JAX."""
    app = App(
        name="jaxzero",
        version=jaxzero.__version__,
        help=jaxzero.__doc__,
        help_format="plaintext",
        suppress_keyboard_interrupt=False,
    )
    for module, commands in COMMANDS.items():
        for name, line in commands.items():
            # The line would replace the command's own help, its docstring.
            app.command(f"jaxzero.cli.{module}:{name}", help=None if name == asked else line)
    return app


def main(tokens: Sequence[str] | None = None) -> int:
    """Runs a command line -> exit status. A mistake of the user is one line on stderr and status 2; SIGINT, SIGTERM and
    SIGHUP are one line and status 128 + the signal's number."""
    tokens = sys.argv[1:] if tokens is None else list(tokens)
    try:
        with interrupts.Interrupt():
            if tokens[:1] == ["train"] and {"--help", "-h", "--help-all"} & set(tokens):
                from jaxzero.cli import settings_help, train  # late: they import JAX

                settings_help.show(train.train, tokens[1:])
                return 0
            app = make_app(*tokens[:1])
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
    except UnknownOptionError as error:
        from jaxzero.cli import spellings  # late: a long table

        names = [name for argument in error.argument_collection for name in argument.names]
        message = spellings.answer(error.token.keyword or error.token.value, names)
    except UnusedCliTokensError as error:
        left = shortened(" ".join(error.unused_tokens or []))
        message = f"nothing here takes {left!r}; a switch has no value: --name turns it on, --no-name off"
    except CycloptsError as error:
        message = f"{shortened(str(error), 300)} Add --help for the list of options."
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2
