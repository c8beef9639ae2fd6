"""Work shared among processes, its results in order."""

import collections
import concurrent.futures
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from jaxzero.messages import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")
WORTH = 1 << 25  # bytes of files from which on starting processes, of seconds each, is worth it
MOST = 8  # processes, of some 400 MiB each, unless asked for


def count(size: int) -> int:
    """Processes for files of so many bytes."""
    return min(len(os.sched_getaffinity(0)), MOST) if size >= WORTH else 1


def ordered(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, as `map` does it; some items are taken ahead.

    Raises:
        ConfigError: a process has died.
    """
    if workers < 2:
        for item in items:
            yield item, function(item)
        return
    context = multiprocessing.get_context("spawn")  # JAX has threads, which a fork would not take along
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _follow_parent)
    waiting: collections.deque[tuple[Item, concurrent.futures.Future[Any]]] = collections.deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > 2 * workers:
                item, future = waiting.popleft()
                yield item, future.result()
        while waiting:
            item, future = waiting.popleft()
            yield item, future.result()
    except BrokenProcessPool as error:
        raise ConfigError("workers: a process has died, perhaps of too little memory; try --workers 1") from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _follow_parent() -> None:
    """Ends this process with its parent, also where that is killed."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
