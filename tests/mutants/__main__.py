"""`python -m mutants [TEXT ...]`: runs each mutant's tests on a copy of the code; status 1 if one survives.

With TEXT, only mutants whose name or file contains one of the texts.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from mutants import ROOT, Mutant, listed

TESTS_FAILED = 1  # exit status of pytest; others mean that the tests did not run
LIMIT = 900  # seconds for the tests of one mutant; a mutant may hang


def copied(folder: Path) -> None:
    """The files under version control, and links to what is installed and compiled."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, names):
        source, target = ROOT / os.fsdecode(name), folder / os.fsdecode(name)
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    (ROOT / ".cache").mkdir(exist_ok=True)
    (folder / ".cache").symlink_to(ROOT / ".cache")


def survived(mutant: Mutant) -> str:
    """ "" if a test failed, else what happened instead."""
    with tempfile.TemporaryDirectory(prefix="mutant_") as name:
        folder = Path(name)
        copied(folder)
        file = folder / mutant.file
        text = file.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            return f"{mutant.old!r} stands {text.count(mutant.old)} times in {mutant.file}"
        file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *mutant.test.split()]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        try:
            ended = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            return ""  # a hang is noticed
    if ended.returncode == TESTS_FAILED and " failed" in ended.stdout and "error during collection" not in ended.stdout:
        return ""
    return ended.stdout.strip().rpartition("\n")[2] or ended.stderr.strip()[-200:] or f"status {ended.returncode}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("texts", nargs="*", metavar="TEXT")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once")
    options = parser.parse_args()
    chosen = [
        mutant
        for mutant in listed()
        if not options.texts or any(text in mutant.name + mutant.file for text in options.texts)
    ]
    began, alive = time.perf_counter(), []
    console = Console()
    with ThreadPoolExecutor(options.jobs) as pool:
        results = pool.map(survived, chosen)
        for mutant, text in zip(
            chosen, track(results, "mutants", len(chosen), console=Console(stderr=True)), strict=True
        ):
            if text:
                alive.append(mutant)
                console.print(f"survived: {mutant.name} ({mutant.file}): {text}", markup=False, highlight=False)
    minutes = (time.perf_counter() - began) / 60
    console.print(f"{len(chosen) - len(alive)} of {len(chosen)} mutants killed in {minutes:.1f} minutes")
    return int(bool(alive) or not chosen)


if __name__ == "__main__":
    sys.exit(main())
