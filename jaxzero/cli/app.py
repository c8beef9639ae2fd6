"""The `jaxzero` command. Parsing only: every command calls one function of the package."""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnusedCliTokensError

import jaxzero
from jaxzero import interrupts, streams
from jaxzero.cli import games, matches, results, settings_help, train, weights
from jaxzero.config.schema import ConfigError
from jaxzero.hardware import use_all_cores
from jaxzero.messages import shortened

app = App(
    name="jaxzero",
    version=jaxzero.__version__,
    help=jaxzero.__doc__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
for command in (
    train.train, weights.export, weights.convert, matches.match, matches.evaluate, matches.rate, games.check,
    games.play, results.report, results.compare, train.presets,
):  # fmt: skip
    app.command(command)


def main(tokens: Sequence[str] | None = None) -> int:
    """Runs a command line -> exit status. A mistake of the user is one line on stderr and status 2; SIGINT, SIGTERM and
    SIGHUP are one line and status 128 + the signal's number."""
    use_all_cores()
    tokens = sys.argv[1:] if tokens is None else list(tokens)
    try:
        with interrupts.Interrupt():
            if tokens[:1] == ["train"] and settings_help.asked(tokens):
                settings_help.show(train.train, tokens[1:])
                return 0
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
