"""A stage: a folder that is made from files or other folders. Killed and started again with the same words, it goes on;
the finished folder is that of an undisturbed run.

While it is made, the folder holds `unfinished`, afterwards `finished`: what was asked for, and how far it has come or
what was counted, as JSON.
"""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

from jaxzero import files, messages
from jaxzero.data import shards
from jaxzero.messages import ConfigError, shortened

UNFINISHED, FINISHED = "unfinished", "finished"


class Stage:
    """`state` is what the last `save` kept, {} at first; `counts` those of a stage that is already finished."""

    def __init__(self, folder: Path, words: dict[str, Any], overwrite: bool = False):
        """`words` tell what is asked for: the same ones go on.

        Raises:
            ConfigError: the folder holds something else.
        """
        self.folder, self.words = folder, json.loads(json.dumps(words))
        self.state: dict[str, Any] = {}
        self.counts: dict[str, Any] | None = None
        found = next((name for name in (FINISHED, UNFINISHED) if (folder / name).exists()), None)
        there = _read(folder / found) if found else None
        if overwrite and (found or (folder / shards.SHARED).exists()):
            shutil.rmtree(folder)
        elif there and there["words"] == self.words:
            self.state = there["state"]
            self.counts = there["state"] if found == FINISHED else None
        elif found or (folder.exists() and (not folder.is_dir() or {*folder.iterdir()} - {*files.drafts(folder)})):
            name = shortened(str(folder), 200)
            whats = {FINISHED: "holds what another command made", UNFINISHED: "is unfinished, by another command"}
            what = whats.get(found or "", "is not empty")
            raise ConfigError(f"out: {name}: {what}; choose another folder" + " or give --overwrite" * bool(found))
        with messages.reported(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for draft in files.drafts(folder):
                draft.unlink()
            if self.counts is None:
                self.save(self.state)
            else:  # killed at its very end
                (folder / UNFINISHED).unlink(missing_ok=True)

    def save(self, state: dict[str, Any]) -> None:
        """Keeps how far the stage has come."""
        self.state = state
        with messages.reported(self.folder):
            files.write(self.folder / UNFINISHED, json.dumps({"words": self.words, "state": state}) + "\n")

    def finish(self, counts: dict[str, Any]) -> None:
        with messages.reported(self.folder):
            files.write(self.folder / FINISHED, json.dumps({"words": self.words, "state": counts}) + "\n")
            with contextlib.suppress(FileNotFoundError):
                (self.folder / UNFINISHED).unlink()


def _read(path: Path) -> dict[str, Any] | None:
    content = files.read(path)
    try:
        value = files.parse_json(content or b"")
        files.check_shape(value, {"words": {}, "state": {}})
    except ValueError:
        return None
    return value


def check_finished(folder: Path) -> None:
    """Raises:
    ShardError: no folder of games, one that is still being made, or a damaged or missing shard; a torn end of an open
        one, as a killed process leaves it, is no damage.
    """
    shards.game_of(folder)
    if (folder / UNFINISHED).exists() and not (folder / FINISHED).exists():
        raise shards.ShardError(f"{folder}: is not finished; give the command that makes it again, and it goes on")
    for path, problem in shards.verify(folder):
        if path.suffix != ".open":
            raise shards.ShardError(f"{path}: {problem}; restore it, or move it aside with its digest (.json)")
