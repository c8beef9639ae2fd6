"""`python -m gauntlet [--seed N] [NAME ...]` runs attacks, two at once, and prints a table; status 1 on a fault."""

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Said here, as commands that run in one process with others come too late to ask for devices.
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
cache = Path(__file__).parent.parent.parent / ".cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

from rich.console import Console  # noqa: E402
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.table import Table  # noqa: E402

from gauntlet import ATTACKS, Case, Report, carry_out, load  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="gauntlet", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(ATTACKS)}; all if none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="cases of each attack; those of a full run if not given")
    parser.add_argument("--jobs", type=int, default=2, help="attacks that run at once")
    options = parser.parse_args()
    if unknown := set(options.names) - set(ATTACKS):
        parser.error(f"unknown attack {sorted(unknown)[0]!r}; known: {', '.join(ATTACKS)}")
    names = options.names or list(ATTACKS)
    counts = {name: options.count or load(name).COUNT for name in names}
    console = Console(file=sys.stderr)
    context = multiprocessing.get_context("spawn")
    reports = {}
    columns = (
        TextColumn("{task.description:<10}"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[faults]} faults"),
        TimeElapsedColumn(),
    )
    with (
        context.Manager() as manager,
        Progress(*columns, console=console) as bar,
        ProcessPoolExecutor(options.jobs, context) as pool,
    ):
        told = manager.Queue()
        tasks = {name: bar.add_task(name, total=counts[name], faults=0, start=False) for name in names}
        found = dict.fromkeys(names, 0)
        futures = {pool.submit(carry_out, name, options.seed, counts[name], told): name for name in names}
        while len(reports) < len(futures):
            while not told.empty():
                name, fault = told.get()
                bar.start_task(tasks[name])
                found[name] += fault
                bar.update(tasks[name], advance=1, faults=found[name])
            for future in [future for future in futures if future.done() and futures[future] not in reports]:
                name = futures[future]
                reports[name] = future.result() if not future.exception() else broken(name, future.exception())
            time.sleep(0.2)
    show([reports[name] for name in names], options.seed)
    return int(any(report.faults or not report.cases for report in reports.values()))


def broken(name: str, error: BaseException | None) -> Report:
    """The report of an attack that came to no end, such as when the system killed a process for its memory."""
    return Report(name, 0, [Case("the whole attack", f"{type(error).__name__}: {error}")], 0)


def show(reports: list[Report], seed: int) -> None:
    console = Console()
    table = Table("attack", "cases", "faults", "minutes", title=f"seed {seed}")
    for report in reports:
        table.add_row(report.name, str(report.cases), str(len(report.faults)), f"{report.seconds / 60:.1f}")
    table.add_row("all", str(sum(r.cases for r in reports)), str(sum(len(r.faults) for r in reports)), "")
    console.print(table)
    for report in reports:
        for case in report.faults:
            console.print(f"{report.name}: {case.what}\n    {case.fault}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
