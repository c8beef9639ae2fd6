"""The process of the `jaxzero` command."""

import sys
from typing import NoReturn

from jaxzero import interrupts, streams


def main() -> NoReturn:
    """Runs the command line; from the start on, signals end it and its streams hold."""
    streams.mend()
    interrupts.guard()
    from jaxzero.cli import app  # late: takes seconds

    try:
        status = app.main()
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    sys.stdout.flush()
    interrupts.leave(status)


if __name__ == "__main__":
    main()
