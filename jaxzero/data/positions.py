"""Positions on disk: what networks are trained on, as records of fixed width that are read in any order.

A folder of positions holds
    positions.json            {"version": 1, "game": …, "options": …, "made": how its records were made}
    positions-000000.npy, …   chunks: NumPy files of records, memory-mapped; each is written whole and never changes
    positions-000000.json, …  their {"positions": …, "bytes": …, "digest": BLAKE2b}, each written just before its chunk
    finished                  written last, with the number of chunks and positions (see `jaxzero.data.stage`)

A record holds what `Transition` has for one ply (the leaves of the state as "state.NAME"), and
    target  f4  value target, mover's view
    game    i8  a digest of the game's first position and moves: copies of a game have the same number everywhere
    ply     i2  plies of the game before this one

Letters: N positions, L legal-move slots.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from envs import Env
from jaxzero import files
from jaxzero.config.games import make_env
from jaxzero.config.schema import GameConfig
from jaxzero.data.shards import Damage
from jaxzero.data.stage import FINISHED
from jaxzero.messages import ConfigError, reported, shortened
from jaxzero.training.transitions import Transition

SHARED = "positions.json"
VERSION = 1
CHUNK = 1 << 20  # positions
CHUNK_BYTES = 1 << 28  # of a chunk, at most


class Positions(NamedTuple):
    """A finished folder of positions."""

    folder: Path
    game: GameConfig
    made: dict[str, Any]
    dtype: np.dtype
    counts: list[int]  # positions of each chunk

    @property
    def paths(self) -> list[Path]:
        return [chunk_path(self.folder, number) for number in range(len(self.counts))]

    @property
    def total(self) -> int:
        return sum(self.counts)

    def chunks(self) -> Iterator[np.ndarray]:
        """The records of each chunk, memory-mapped."""
        return map(load, self.paths)


# Records


@lru_cache
def state_fields(env: Env) -> tuple[list[tuple[str, str, tuple[int, ...]]], Any]:
    """The fields of a state in a record, and the structure of its leaves."""
    shapes = jax.eval_shape(env.init, jax.random.key(0))
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    return [(f"state{jax.tree_util.keystr(path)}", np.dtype(x.dtype).str, x.shape) for path, x in leaves], structure


@lru_cache
def record_type(env: Env) -> np.dtype:
    slots = (env.max_legal,)
    fields = [
        ("target", "<f4"), ("game", "<i8"), ("ply", "<i2"), ("action", "<i2"), ("reward", "<f4"), ("end", "|b1"),
        ("value", "<f4"), ("policy_weight", "<f2"), ("moves", "<i2", slots), ("weights", "<f2", slots),
    ]  # fmt: skip
    return np.dtype([*fields, *state_fields(env)[0]])


def transitions(env: Env, records: np.ndarray) -> tuple[Transition, np.ndarray]:
    """Records [N] -> (transitions [N], value targets f32[N]) of contiguous NumPy arrays."""
    fields, structure = state_fields(env)
    take = lambda name: np.ascontiguousarray(records[name])  # noqa: E731
    state: Any = jax.tree.unflatten(structure, [take(name) for name, _, _ in fields])
    names = ("action", "reward", "end", "value", "moves", "weights", "policy_weight")
    facts: dict[str, Any] = {name: take(name) for name in names}
    return Transition(state=state, **facts), take("target")


# Writing


def create(folder: Path, game: GameConfig, made: dict[str, Any]) -> None:
    """Says what a new folder will hold. Raises ConfigError: it cannot be written."""
    shared = {"version": VERSION, "game": game.source or game.name, "options": game.options, "made": made}
    with reported(folder):
        files.write(folder / SHARED, json.dumps(shared) + "\n")


def chunk_path(folder: Path, number: int) -> Path:
    return folder / f"positions-{number:06d}.npy"


def chunk_size(dtype: np.dtype) -> int:
    """Positions of a chunk."""
    return max(1, min(CHUNK, CHUNK_BYTES // dtype.itemsize))


def write_chunk(folder: Path, number: int, parts: Iterator[np.ndarray], count: int, dtype: np.dtype) -> None:
    """Writes a chunk of `count` records, whole or not at all.

    Raises:
        ConfigError: it cannot be written, such as on a full disk.
    """
    path = chunk_path(folder, number)
    draft, digest = files.draft_of(path), hashlib.blake2b(digest_size=16)
    with reported(path):
        try:
            with draft.open("w+b") as file:
                header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
                np.lib.format.write_array_header_1_0(file, header)
                file.seek(0)
                digest.update(file.read())
                for part in parts:
                    content = part.view(np.uint8).data
                    digest.update(content)
                    file.write(content)
            facts = {"positions": count, "bytes": draft.stat().st_size, "digest": digest.hexdigest()}
            files.write(path.with_suffix(".json"), json.dumps(facts) + "\n")
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


# Reading


def open_folder(folder: Path) -> Positions:
    """A finished folder of positions, none of whose chunks is missing or has another length; `verify` compares their
    contents too.

    Raises:
        ConfigError: it is none, not finished, or a chunk is missing or damaged.
    """
    name = shortened(str(folder), 200)
    shared = files.read_json(folder / SHARED, {"version": int, "game": str, "options": {}, "made": {}})
    if shared is None:
        raise ConfigError(f"{name}: no folder of positions (no {SHARED}); `jaxzero data convert` makes one of games")
    if shared["version"] != VERSION:
        raise ConfigError(f"{name}: positions of version {shared['version']}; this jaxzero reads version {VERSION}")
    done = files.read_json(folder / FINISHED, {"state": {"positions": int, "chunks": int}, "words": {}})
    if done is None:
        raise ConfigError(f"{name}: is not finished; give the command that makes it again, and it goes on")
    own = ".py:" in shared["game"]
    game = GameConfig("" if own else shared["game"], shared["game"] if own else "", shared["options"])
    dtype, counts = record_type(make_env(game)), []
    for number in range(done["state"]["chunks"]):
        path = chunk_path(folder, number)
        if problem := _quick_problem(path):
            raise ConfigError(f"{path}: {problem}; restore it, or make the folder again")
        chunk = load(path)
        if chunk.dtype != dtype:
            raise ConfigError(f"{path}: holds records of another kind; convert the games again")
        counts.append(len(chunk))
    if sum(counts) != done["state"]["positions"]:
        raise ConfigError(f"{name}: {sum(counts)} positions in place of {done['state']['positions']}; make it again")
    return Positions(folder, game, shared["made"], dtype, counts)


def open_all(folders: list[Path]) -> list[Positions]:
    """Folders of positions of one game. Raises ConfigError: see `open_folder`, or their games differ."""
    opened = [open_folder(folder) for folder in folders]
    for other in opened[1:]:
        if other.game != opened[0].game:
            raise ConfigError(f"{other.folder}: holds another game than {opened[0].folder}; give folders of one game")
    return opened


def load(path: Path) -> np.ndarray:
    """The records of a chunk, memory-mapped. Raises ConfigError: it is no such file."""
    try:
        chunk = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ConfigError(f"{path}: damaged ({shortened(str(error))}); restore it, or make the folder again") from error
    if chunk.ndim != 1 or chunk.dtype.names is None:
        raise ConfigError(f"{path}: holds no records; restore it, or make the folder again")
    return chunk


def verify(folder: Path) -> Iterator[Damage]:
    """Compares all chunks of a folder with their digests -> those that are missing or damaged."""
    done = files.read_json(folder / FINISHED, {"state": {"chunks": int}, "words": {}})
    paths = [chunk_path(folder, number) for number in range(done["state"]["chunks"] if done else 0)]
    paths += sorted(set(folder.glob("positions-*.npy")) - set(paths))
    with ThreadPoolExecutor() as pool:
        for path, problem in zip(paths, pool.map(_problem, paths), strict=True):
            if problem:
                yield Damage(path, problem)


def check_sound(positions: Positions) -> None:
    """Raises ConfigError: a chunk differs from its digest; the first such one is named."""
    for path, problem in verify(positions.folder):
        raise ConfigError(f"{path}: {problem}; restore it, or make the folder again")


def check_chunk(path: Path) -> None:
    """Raises ConfigError: the chunk is missing, or differs from its digest."""
    if problem := _problem(path):
        raise ConfigError(f"{path}: {problem}; restore it, or make the folder again")


def digest_of(path: Path) -> str:
    """The digest that a chunk had when it was written."""
    return files.read_json(path.with_suffix(".json"), {"digest": str})["digest"]


def remove(folder: Path) -> None:
    """Deletes a folder of positions, but nothing else that is in it."""
    for pattern in (FINISHED, SHARED, "positions-*.npy", "positions-*.json"):
        for path in folder.glob(pattern):
            path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def _problem(path: Path) -> str:
    """What is wrong with a chunk, "" if nothing."""
    try:
        if problem := _quick_problem(path):
            return problem
        facts = files.read_json(path.with_suffix(".json"), {"digest": str})
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        return "" if facts["digest"] == digest else "differs from its digest"
    except (ConfigError, OSError) as error:
        return str(error)


def _quick_problem(path: Path) -> str:
    facts = files.read_json(path.with_suffix(".json"), {"positions": int, "bytes": int, "digest": str})
    if not path.exists():
        return "is missing"
    if facts is None:
        return "has no digest"
    size = path.stat().st_size
    return "" if facts["bytes"] == size else f"has {size} bytes in place of {facts['bytes']}"
