"""Commands on positions on disk: `jaxzero data convert`, `shuffle`."""

import re
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from jaxzero.cli.options import Seed, compiles
from jaxzero.cli.stages import Flag, Plies, bar, check_extra, rate
from jaxzero.messages import ConfigError


@compiles
def convert(
    *folders: Path,
    out: Path,
    select: str = "all",
    from_ply: Annotated[int, Plies] = 0,
    label: str = "outcome",
    policy: str = "search",
    overwrite: Flag = False,
) -> None:
    """Turn the games of folders into positions to train on. Killed, the same command goes on.

    Games are replayed by the rules; those with an illegal move are left out and counted. Plies of a random opening
    are never trained on.

    Parameters
    ----------
    folders
        Folders of games of one game.
    out
        The new folder of positions.
    select
        Plies of each game: all, final (before the last move), penultimate, or every:K.
    from_ply
        Leave out the first so many plies of each game.
    label
        Value target: outcome, lambda:X (the λ-return of training), steps:N (N-step return) or value (the root value
        of the search or teacher that played). Games whose end is not known have positions with `value` only.
    policy
        Policy target: search (the search's policy, where one was written down), played (the move played), or soft:EPS
        (the move played, of which EPS is spread evenly over the legal moves).
    overwrite
        Delete a folder that is there.
    """
    check_extra()
    from jaxzero.data import convert as convert_lib

    conversion = convert_lib.Conversion(select, from_ply, label, policy)
    began = time.perf_counter()
    with bar("convert", "positions") as report:
        counts = convert_lib.run(folders, out, conversion, overwrite, report)
    left_out = [
        f"{counts[name]:,} {what}"
        for name, what in (
            ("illegal", "illegal games"), ("unfinished", "unfinished games"),
            ("unlabelled", "positions without a root value"),
        )
        if counts[name]
    ]  # fmt: skip
    without = f", without {', '.join(left_out)}" if left_out else ""
    print(
        f"{out}: {counts['positions']:,} positions of {counts['games']:,} games{without}; "
        f"{rate(counts['positions'], began, 'positions')}"
    )


def shuffle(
    *folders: Path,
    out: Path,
    seed: Annotated[int, Seed] = 0,
    memory: str = "1GiB",
    remove: Annotated[bool, Parameter(negative="--keep")] = False,
    overwrite: Flag = False,
) -> None:
    """Write the positions of folders into one, in random order. Killed, the same command goes on; the order depends on
    the seed and the input alone.

    Besides the input it takes as much disk as the input, and one chunk more.

    Parameters
    ----------
    folders
        Folders of positions of one game.
    out
        The new folder.
    seed
        Seed of the order.
    memory
        Memory that may be used, such as 512MiB. Less than 1GiB makes more, smaller chunks, in another order.
    remove
        Delete the positions of the input once the output is complete.
    overwrite
        Delete a folder that is there.
    """
    check_extra()
    from jaxzero.data import shuffle as shuffle_lib

    size, began = bytes_of(memory), time.perf_counter()
    with bar("shuffle", "positions") as report:
        counts = shuffle_lib.run(folders, out, seed, size, remove, overwrite, report)
    used = sum(path.stat().st_size for path in out.iterdir()) / 1e9
    print(
        f"{out}: {counts['positions']:,} positions in {counts['chunks']} chunks, {used:.2f} GB; "
        f"{rate(counts['positions'], began, 'positions')}"
    )


def bytes_of(text: str) -> int:
    """The bytes of a text such as 512MiB or 2GB.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*([kMGT]?)(i?)B?", text)
    if not found:
        raise ConfigError(f"--memory: {text!r} is no size; give one such as 512MiB or 2GB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " kMGT".index(found[2] or " "))
