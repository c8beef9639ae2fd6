"""Training on positions from disk: the batches of each iteration, the loss on games held back, when to stop.

Letters: U updates of an iteration, N positions.
"""

import dataclasses
import logging
import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from envs import Env
from jaxzero.config.schema import Config
from jaxzero.messages import ConfigError
from jaxzero.networks import Network
from jaxzero.parallel import make_mesh
from jaxzero.training.iteration import ROWS
from jaxzero.training.learner import make_batch
from jaxzero.training.losses import alphazero_loss
from jaxzero.training.transitions import Transition

if TYPE_CHECKING:
    from jaxzero.data.reader import Reader
else:
    Reader = Any  # its libraries may be missing

VALIDATED = 1 << 14  # positions of a measurement, at most
SLICE = 1 << 10  # of them at once
_log = logging.getLogger(__name__)


def open_reader(config: Config, env: Env) -> Reader | None:
    """The reader of `data.sources`, None if there are none.

    Raises:
        ConfigError: folders that cannot be read, damaged positions, nothing held back, or a missing library.
    """
    data = config.data
    if not data.sources:
        return None
    if lacking := [name for name in ("grain", "pyarrow") if not find_spec(name)]:
        raise ConfigError(f"data.sources: needs {lacking[0]}; pip install 'jaxzero[data]'")
    from jaxzero.data import reader  # late: the libraries for it may be missing

    folders = [reader.parse_folder(text) for text in data.sources]
    size = config.from_disk(config.learner.batch // config.num_devices()) * config.num_devices()
    opened = reader.Reader(env, folders, size, config.seed, data.validation, data.positions, data.shuffle)
    held = sum(len(part.validation) for part in opened.parts)
    if data.validation and not held:
        raise ConfigError(f"data.validation: no game is held back at {data.validation}; raise it, or set it to 0")
    _log.info("reading %d positions of %s; %d more are held back", opened.positions, ", ".join(data.sources), held)
    return opened


def with_epochs(config: Config, reader: Reader | None) -> Config:
    """The configuration with as many iterations as `data.epochs` takes."""
    if reader is None or not config.data.epochs:
        return config
    batches = math.ceil(config.data.epochs * reader.positions / reader.size)
    return dataclasses.replace(config, iterations=max(1, math.ceil(batches / config.updates)))


class Feed:
    """The batches of one iteration after the other, on the devices; those of the next are gathered meanwhile."""

    def __init__(self, config: Config, reader: Reader):
        self.reader, self.updates = reader, config.updates
        self.read = 0  # batches handed out: all that a checkpoint has to keep
        self._sharding = NamedSharding(make_mesh(config.num_devices()), ROWS)
        self._thread = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Any]] | None = None

    def peek(self) -> tuple[Transition, Any]:
        """Transitions [U, N] and value targets f32[U, N] of the next iteration."""
        if self._next is None or self._next[0] != self.read:
            self._next = self._begin(self.read)
        return jax.device_put(self._next[1].result(), self._sharding)

    def take(self) -> tuple[Transition, Any]:
        """The same, which are then read."""
        batches = self.peek()
        self.read += self.updates
        self._next = self._begin(self.read)
        return batches

    def _begin(self, first: int) -> tuple[int, Future[Any]]:
        return first, self._thread.submit(self.reader.batches, first, self.updates)

    @property
    def epoch(self) -> float:
        """How often as many positions were read as there are."""
        return self.read * self.reader.size / self.reader.positions


def make_validate(
    env: Env, network: Network, config: Config, reader: Reader
) -> Callable[[Any], dict[str, float]] | None:
    """The function `validate(variables) -> losses`, means over positions of the games held back, none of them turned;
    None if none are."""
    if not config.data.validation:
        return None
    learner = dataclasses.replace(config.learner, augment=False)
    played, target = reader.validation(VALIDATED)
    count = len(target)
    whole = -(-count // SLICE) * SLICE
    padded = jax.tree.map(lambda x: np.resize(x, (whole, *x.shape[1:])), (played, target))

    @jax.jit
    def losses(variables: Any, played: Transition, target: jax.Array, used: jax.Array) -> dict[str, jax.Array]:
        batch = make_batch(env, learner, played, target, jax.random.key(0))
        prediction, _ = network.predict(variables, batch.observation)
        found = alphazero_loss(learner, prediction, batch.moves, batch.weights, batch.policy_weight, batch.value)
        return {name: jnp.where(used, values, 0).sum() for name, values in found.items()}

    def validate(variables: Any) -> dict[str, float]:
        sums: dict[str, float] = {}
        for begin in range(0, whole, SLICE):
            part = jax.tree.map(lambda x, begin=begin: x[begin : begin + SLICE], padded)
            used = np.arange(begin, begin + SLICE) < count
            for name, value in losses(variables, *part, used).items():
                sums[name] = sums.get(name, 0.0) + float(value)
        return {f"validation/{name}": value / count for name, value in sums.items()}

    return validate


@dataclasses.dataclass
class Stopping:
    """Early stopping: counts measurements without a lower loss."""

    patience: int  # 0: never stops
    lowest: float = math.inf
    iteration: int = 0  # of the lowest
    without: int = 0  # measurements since

    def measured(self, loss: float, iteration: int) -> bool:
        """Whether the loss is the lowest so far."""
        lower = loss < self.lowest
        if lower:
            self.lowest, self.iteration, self.without = loss, iteration, 0
        else:
            self.without += 1
        return lower

    @property
    def over(self) -> bool:
        return 0 < self.patience <= self.without

    def state(self) -> dict[str, Any]:
        """JSON; no infinite number."""
        return {"lowest": self.lowest, "iteration": self.iteration, "without": self.without} if self.iteration else {}

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
