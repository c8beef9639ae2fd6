"""Shuffles positions, more than memory holds, in two passes, as KataGo and lc0 do.

First the input is streamed once, and each position is appended to the file of a random bucket. Then each bucket is
loaded, permuted and written as a chunk. Buckets one after the other, each in random order, are a uniformly random
order of all. The order is fixed by the seed and the input: random numbers are counted, those of position i being the
i-th of a counter-based generator, and no kill changes them.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxzero.data import positions
from jaxzero.data.positions import Positions
from jaxzero.data.stage import FINISHED, Stage
from jaxzero.messages import ConfigError, reported, shortened

BLOCK = 1 << 24  # bytes that are read, or written, at once
LEAST = 1 << 26  # bytes of memory


def run(
    folders: Sequence[Path],
    out: Path,
    seed: int = 0,
    memory: int = 1 << 30,
    remove: bool = False,
    overwrite: bool = False,
    report: Callable[[int, int, int], None] = lambda done, total, positions: None,
) -> dict[str, int]:
    """Shuffles the positions of folders into a new one, going on where a killed process stopped -> counts of
    "positions" and "chunks".

    Args:
        memory: bytes that may be used; an input of more than half as many is cut into more, smaller chunks.
        remove: delete the input after the output is complete.

    Raises:
        ConfigError: folders that cannot be used, a damaged chunk, too little memory or disk.
    """
    if not folders:
        raise ConfigError("folders: none given; name one or more folders of positions")
    if memory < LEAST:
        raise ConfigError(f"memory: {memory} bytes are too few; give {LEAST >> 20}MiB or more")
    sources = [] if (out / FINISHED).exists() else positions.open_all(list(folders))
    stage = Stage(out, {"shuffle": list(map(str, folders)), "seed": seed, "memory": memory}, overwrite)
    counts = stage.counts
    if counts is None:
        counts = _shuffle(stage, sources or positions.open_all(list(folders)), seed, memory, report)
    if remove:
        for folder in folders:
            positions.remove(folder)
    return counts


def _shuffle(
    stage: Stage, sources: list[Positions], seed: int, memory: int, report: Callable[[int, int, int], None]
) -> dict[str, int]:
    out, dtype = stage.folder, sources[0].dtype
    total = sum(source.total for source in sources)
    digests = [positions.digest_of(path) for source in sources for path in source.paths]
    state: dict[str, Any] = {"digests": digests} | stage.state
    if state["digests"] != digests:
        raise ConfigError(f"out: {out}: was begun from other positions; choose another folder or give --overwrite")
    if "scattered" not in state:
        positions.create(out, sources[0].game, sources[0].made | {"shuffled": seed})
        check_disk(out, total * dtype.itemsize - sum(state.get("sizes", [])))
        buckets = count_buckets(total, dtype.itemsize, memory)
        for done, sizes in scatter(out, sources, seed, buckets, state):
            state |= {"blocks": done, "sizes": sizes}
            stage.save(state)
            report(sum(sizes) // dtype.itemsize // 2, total, total)
        state |= {"scattered": True}
        stage.save(state)
    written = 0
    for number, size in enumerate(state["sizes"]):
        count = size // dtype.itemsize
        if not positions.chunk_path(out, number).exists():
            write_permuted(out, number, count, dtype, seed)
        bucket_path(out, number).unlink(missing_ok=True)
        written += count
        report((total + written) // 2, total, total)
    counts = {"positions": total, "chunks": len(state["sizes"])}
    stage.finish(counts)
    return counts


def count_buckets(total: int, width: int, memory: int) -> int:
    """Buckets of positions of `width` bytes: as large as chunks are, and as a third of the memory."""
    size = min(positions.CHUNK * width, positions.CHUNK_BYTES, memory // 3)
    return max(1, -(-total * width // size))


def check_disk(out: Path, needed: int) -> None:
    """Raises ConfigError: there is not as much free space as all positions take, and one bucket."""
    free = shutil.disk_usage(out).free
    if free < needed + positions.CHUNK_BYTES:
        raise ConfigError(
            f"out: {shortened(str(out), 200)}: needs {needed / 1e9:.1f} GB beside the input, {free / 1e9:.1f} GB are "
            "free; free space, or choose another disk"
        )


def draws(seed: int, first: int, count: int) -> np.ndarray:
    """u64[count]: the random numbers first, first + 1, … of a seed (Philox, Salmon et al. 2011)."""
    generator = np.random.Philox(key=seed)
    generator.advance(first // 4)  # four numbers a counter
    return generator.random_raw(first % 4 + count)[first % 4 :]


# First pass


def scatter(
    out: Path, sources: list[Positions], seed: int, buckets: int, state: dict[str, Any]
) -> Iterator[tuple[int, list[int]]]:
    """Appends the positions of blocks of the input to buckets; after each block, the blocks done and the bytes of each
    bucket. What a killed process has appended since it last saved these is cut off."""
    done, sizes = state.get("blocks", 0), list(state.get("sizes", [0] * buckets))
    with reported(out):
        paths = [bucket_path(out, number) for number in range(buckets)]
        for path in paths:
            path.touch()
        if any(path.stat().st_size < size for path, size in zip(paths, sizes, strict=True)):  # after a power failure
            done, sizes = 0, [0] * buckets
        for path, size in zip(paths, sizes, strict=True):
            os.truncate(path, size)
        for block, (first, records) in enumerate(blocks(sources, done), done):
            drawn = draws(seed, first, len(records)) >> np.uint64(32)
            bucket = (drawn * np.uint64(buckets) >> np.uint64(32)).astype(np.int64)
            ordered = records[np.argsort(bucket, kind="stable")]
            ends = np.cumsum(np.bincount(bucket, minlength=buckets))
            for number, part in enumerate(np.split(ordered, ends[:-1])):
                if len(part):
                    with paths[number].open("ab") as file:
                        file.write(part.view(np.uint8).data)
                    sizes[number] += part.nbytes
            yield block + 1, sizes


def blocks(sources: list[Positions], skip: int) -> Iterator[tuple[int, np.ndarray]]:
    """The input in order after the first `skip` blocks, BLOCK bytes at once but of one chunk, each with the number of
    its first position; a chunk is compared with its digest before it is read."""
    first = 0
    for source in sources:
        width = max(1, BLOCK // source.dtype.itemsize)
        for path, count in zip(source.paths, source.counts, strict=True):
            begins = range(0, count, width)
            if skip < len(begins):
                positions.check_chunk(path)
                records = positions.load(path)
                for begin in begins[skip:]:
                    yield first + begin, np.array(records[begin : begin + width])
            skip = max(0, skip - len(begins))
            first += count


def bucket_path(out: Path, number: int) -> Path:
    return out / f"bucket-{number:06d}"


# Second pass


def write_permuted(out: Path, number: int, count: int, dtype: np.dtype, seed: int) -> None:
    """Writes a bucket in random order as a chunk."""
    path = bucket_path(out, number)
    with reported(path):
        records = np.fromfile(path, dtype)
    if len(records) != count:
        raise ConfigError(f"{path}: has {len(records)} positions in place of {count}; give --overwrite to begin anew")
    places, width = order(seed, number, count), max(1, BLOCK // dtype.itemsize)
    parts = (records[places[begin : begin + width]] for begin in range(0, count, width))
    positions.write_chunk(out, number, parts, count, dtype)


def order(seed: int, number: int, count: int) -> np.ndarray:
    """A permutation of the positions of a bucket; its random numbers are counted far from those of the first pass."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, number, 1, 0])).permutation(count)
