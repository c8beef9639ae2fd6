"""Batches of positions from folders on disk, in an order that is fixed by a seed and can be entered anywhere.

Grain orders and mixes the numbers of small groups of neighbouring positions; whole batches are then gathered from the
memory maps at once, as a Python call for each position would take longer than learning from it. All that has to be kept
to go on is how many batches were read.

Letters: U batches read at once, N positions of a batch.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grain
import jax
import numpy as np

from envs import Env
from jaxzero.data import positions
from jaxzero.data.positions import Positions
from jaxzero.messages import ConfigError, shortened
from jaxzero.training.transitions import Transition

GROUP = 8  # neighbours in a shuffled folder that stay together; a divisor of the batch


class Folder(NamedTuple):
    """A folder to read: DIR[:WEIGHT[:SKIP]]."""

    path: Path
    weight: float | None = None  # share of the positions read, relative to other folders; None: its size
    skip: int = 0  # positions at its beginning that are not read


def parse_folder(text: str) -> Folder:
    """Raises:
    ConfigError: no folder, or numbers that are none.
    """
    found = re.fullmatch(r"(.+?)(?::([0-9.eE+-]*)(?::(\d+))?)?", text)
    try:
        assert found
        weight = float(found[2]) if found[2] else None
        assert weight is None or 0 < weight < 1e9
    except (AssertionError, ValueError):
        raise ConfigError(
            f"data.sources: {shortened(text)!r} is not DIR[:WEIGHT[:SKIP]], such as games:2 or games:1:10000"
        ) from None
    return Folder(Path(found[1]), weight, int(found[3] or 0))


class Part(NamedTuple):
    """The positions of one folder that are trained on, and those that are held back."""

    source: Positions
    ends: np.ndarray  # i64[chunks + 1]  number of the first position of each chunk
    chunks: list[np.ndarray]
    training: np.ndarray  # positions by number
    validation: np.ndarray

    def gather(self, numbers: np.ndarray) -> np.ndarray:
        """The records of positions i64[N]."""
        records = np.empty(len(numbers), self.source.dtype)
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], self.ends)
        for chunk, first, begin, end in zip(self.chunks, self.ends[:-1], bounds[:-1], bounds[1:], strict=True):
            if begin < end:
                records[order[begin:end]] = chunk[numbers[order[begin:end]] - first]
        return records


def held_back(games: np.ndarray, share: float) -> np.ndarray:
    """bool[N]: positions of games i64[N] that are for validation, in all folders and runs the same."""
    mixed = games.astype(np.uint64)
    for shift, factor in ((33, 0xFF51AFD7ED558CCD), (33, 0xC4CEB9FE1A85EC53)):  # the finalizer of MurmurHash3
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(33)
    return (mixed >> np.uint64(11)) < np.uint64(share * 2**53)


def open_part(source: Positions, folder: Folder, share: float, most: int) -> Part:
    """Raises ConfigError: a chunk is damaged, or no position is left to train on."""
    positions.check_sound(source)
    ends = np.concatenate([[0], np.cumsum(source.counts)])
    chunks = list(source.chunks())
    end = min(source.total, folder.skip + most) if most else source.total
    back = np.concatenate([held_back(chunk["game"], share) for chunk in chunks]) if share else np.zeros(ends[-1], bool)
    used = np.ones(ends[-1], bool)
    used[: folder.skip] = used[end:] = False
    kind = np.uint32 if source.total < 2**32 else np.int64
    training, validation = (np.flatnonzero(used & chosen).astype(kind) for chosen in (~back, back))
    if not len(training):
        raise ConfigError(
            f"data.sources: {folder.path}: no position of its {source.total} is left to train on; lower skip or "
            "data.validation"
        )
    return Part(source, ends, chunks, training, validation)


class Reader:
    """Batches of N positions."""

    def __init__(
        self,
        env: Env,
        folders: Sequence[Folder],
        batch: int,
        seed: int = 0,
        validation: float = 0.0,
        most: int = 0,
        shuffle: bool = True,
    ):
        """
        Args:
            validation: share of the games whose positions are never in a batch.
            most: positions used of each folder, 0: all.
            shuffle: in a new order each epoch; else in that of the folders.

        Raises:
            ConfigError: folders that cannot be used, damaged chunks, or another game.
        """
        sources = positions.open_all([folder.path for folder in folders])
        for source, folder in zip(sources, folders, strict=True):
            if source.dtype != positions.record_type(env):
                raise ConfigError(f"data.sources: {folder.path}: positions of {source.game.name}, not of {env.name}")
        self.env, self.size = env, batch
        self.parts = [open_part(*both, validation, most) for both in zip(sources, folders, strict=True)]
        self.group = next(size for size in (GROUP, 4, 2, 1) if batch % size == 0)
        self.positions = sum(len(part.training) for part in self.parts)
        self._first, datasets, weights = [0], [], []
        for number, (part, folder) in enumerate(zip(self.parts, folders, strict=True)):
            groups = -(-len(part.training) // self.group)
            numbers = grain.MapDataset.range(self._first[-1], self._first[-1] + groups)
            if shuffle:
                numbers = numbers.seed((seed + number) % 2**32).shuffle()
            datasets.append(numbers.repeat())
            weights.append(len(part.training) if folder.weight is None else folder.weight)
            self._first.append(self._first[-1] + groups)
        total = sum(weights)
        self._groups = grain.MapDataset.mix(datasets, [weight / total for weight in weights])

    def records(self, first: int, count: int) -> np.ndarray:
        """The records [U, N] of the batches `first` to `first` + U - 1, counted from 0 over all epochs."""
        per_batch = self.size // self.group
        groups = np.array([self._groups[i] for i in range(first * per_batch, (first + count) * per_batch)])
        found = np.empty((len(groups), self.group), self.parts[0].source.dtype)
        for part, begin, end in zip(self.parts, self._first[:-1], self._first[1:], strict=True):
            here = np.flatnonzero((groups >= begin) & (groups < end))
            # The last group goes on with the first positions.
            place = ((groups[here] - begin)[:, None] * self.group + np.arange(self.group)) % len(part.training)
            found[here] = part.gather(part.training[place.reshape(-1)].astype(np.int64)).reshape(-1, self.group)
        return found.reshape(count, self.size)

    def batches(self, first: int, count: int) -> tuple[Transition, np.ndarray]:
        """The same as transitions [U, N] and value targets f32[U, N]."""
        return positions.transitions(self.env, self.records(first, count))

    def validation(self, most: int) -> tuple[Transition, np.ndarray]:
        """At most so many of the positions held back, evenly from all: transitions [N], value targets f32[N]."""
        share = min(1.0, most / max(1, sum(len(part.validation) for part in self.parts)))
        found = []
        for part in self.parts:
            count = round(len(part.validation) * share)
            chosen = np.arange(count) * len(part.validation) // max(1, count)
            found.append(part.gather(part.validation[chosen].astype(np.int64)))
        return positions.transitions(self.env, np.concatenate(found))


class Batches:
    """The batches of a reader one after the other, without end; its state is small and any reader of the same folders,
    batch and seed can go on from it."""

    def __init__(self, reader: Reader):
        self.reader, self.read = reader, 0

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> tuple[Transition, np.ndarray]:
        played, target = self.reader.batches(self.read, 1)
        self.read += 1
        return jax.tree.map(lambda x: x[0], played), target[0]

    @property
    def epoch(self) -> float:
        """How often as many positions were read as there are."""
        return self.read * self.reader.size / self.reader.positions

    def get_state(self) -> dict[str, int]:
        return {"batches": self.read}

    def set_state(self, state: dict[str, int]) -> None:
        self.read = state["batches"]
