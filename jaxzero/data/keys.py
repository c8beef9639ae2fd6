"""Which games are the same: 128-bit keys of their moves, compared in any number with little memory.

Letters: G games.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

import envs
from jaxzero.data.rules import Ragged, ragged

KEY = np.dtype([("high", "<u8"), ("low", "<u8")])
AT_ONCE = 1 << 22  # keys that are sorted at once
ESCAPE = b"\xff\xff"  # before what is no move


def keys(games: pa.Table, env: envs.Env, symmetric: bool) -> np.ndarray:
    """KEY[G] of the columns `start`, `actions`, `outcomes`. `symmetric`: games that a symmetry of the board turns into
    each other have one key, the smallest of all; not games with chance, nor those from a first position of their own,
    which the symmetries do not tell how to turn."""
    actions, outcomes = ragged(games.column("actions")), ragged(games.column("outcomes"))
    starts = games.column("start").to_pylist()
    turns = env.symmetries if symmetric and not env.num_outcomes else env.symmetries[:1]
    found = [digests(actions, outcomes, starts)]
    for _, turned in turns[1:]:
        moves = np.asarray(turned).astype(np.int16)[actions.values]
        found.append(digests(actions._replace(values=moves), outcomes, starts))
    smallest = found[0]
    unturned = np.array([start is not None for start in starts])
    for other in found[1:]:
        less = (other["high"] < smallest["high"]) | (
            (other["high"] == smallest["high"]) & (other["low"] < smallest["low"])
        )
        smallest = np.where(less & ~unturned, other, smallest)
    return smallest


def digests(actions: Ragged, outcomes: Ragged, starts: Sequence[str | None]) -> np.ndarray:
    """BLAKE2b of each game."""
    moves, drawn = (np.ascontiguousarray(lists.values.astype("<i2")).tobytes() for lists in (actions, outcomes))
    ends, drawn_ends = (2 * actions.offsets).tolist(), (2 * outcomes.offsets).tolist()
    blake, found = hashlib.blake2b, []
    for i, start in enumerate(starts):
        content = moves[ends[i] : ends[i + 1]]
        if start is not None or drawn_ends[i] < drawn_ends[i + 1]:
            chance = drawn[drawn_ends[i] : drawn_ends[i + 1]]
            content += ESCAPE + chance + ESCAPE + (start or "").encode("utf-8", "surrogatepass")
        found.append(blake(content, digest_size=16).digest())
    return np.frombuffer(b"".join(found), KEY)


def first_of_each(paths: Sequence[Path], at_once: int = AT_ONCE) -> np.ndarray:
    """Of `.npy` files of keys, one after the other: bool[G], whether a key is the first of its value. The keys are
    sorted in shares by their leading bits, so that few are held at once."""
    parts = [np.load(path, mmap_mode="r") for path in paths]
    begins = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    first = np.zeros(begins[-1], bool)
    shares = max(1, -(-int(begins[-1]) // at_once))
    for share in range(shares):
        low, high = (share << 64) // shares, ((share + 1) << 64) // shares - 1
        places, values = [], []
        for part, begin in zip(parts, begins, strict=False):
            chosen = np.flatnonzero((part["high"] >= np.uint64(low)) & (part["high"] <= np.uint64(high)))
            places.append(begin + chosen)
            values.append(part[chosen])
        place, value = np.concatenate(places), np.concatenate(values)
        order = np.lexsort((place, value["low"], value["high"]))
        value = value[order]
        new = np.ones(len(value), bool)
        new[1:] = value[1:] != value[:-1]
        first[place[order[new]]] = True
    return first
