"""The process of the `jaxzero` command."""

import sys
from typing import NoReturn

from jaxzero import interrupts, streams


def main() -> NoReturn:
    """Runs the command line; from the start on, signals end it and its streams hold."""
    streams.mend()
    interrupts.guard()
    status = 0
    try:
        from jaxzero import cli  # late: takes seconds

        status = cli.main()
    except BaseException:
        if not interrupts.broken_off():
            raise
    sys.stdout.flush()
    interrupts.leave(interrupts.current.ended() if interrupts.broken_off() else status)


if __name__ == "__main__":
    main()
