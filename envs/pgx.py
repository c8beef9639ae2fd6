"""Deterministic games of perfect information from Pgx (Koyamada et al. 2023), by name: `envs.make("pgx:shogi")`.

Needs `pip install pgx`. Rule difference: Pgx numbers the players at random; here player 0 begins. The state leaves out
what can be computed: it has no observation, and stores the legal actions, which Pgx computes in its step, as bits.
"""

import base64
import dataclasses
import functools
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import Env
from envs.host import parse_action

# Games by name: no game is longer, no position has more legal actions.
LIMITS = {
    "animal_shogi": (256, 132), "chess": (512, 218), "connect_four": (42, 7), "gardner_chess": (256, 1225),
    "go_9x9": (162, 82), "go_19x19": (722, 362), "hex": (122, 121), "othello": (128, 60), "shogi": (512, 593),
    "tic_tac_toe": (9, 9),
}  # fmt: skip
DICE = ("2048", "backgammon")
STORED = ("current_player", "observation", "rewards", "terminated", "truncated", "legal_action_mask")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    inner: Any  # Pgx's state, without the fields STORED
    legal: jax.Array  # u8[⌈A/8⌉]  legal actions as bits
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


@functools.cache
def make_pgx(game: str) -> Any:
    try:
        import pgx
    except ImportError:
        raise ValueError(f"pgx:{game} needs Pgx: pip install pgx") from None
    return pgx.make(game)  # pyright: ignore[reportArgumentType]


def with_rules_mask(inner: Any, mask: Any) -> Any:
    """Pgx's state with the second copy of the legal actions that some of its games (chess, shogi) store."""
    rules: Any = getattr(inner, "_x", None)
    return inner.replace(_x=rules._replace(legal_action_mask=mask)) if hasattr(rules, "legal_action_mask") else inner


@functools.cache
def beginning(game: str) -> Any:
    """Pgx's first position, in numpy."""
    with jax.ensure_compile_time_eval(), jax.numpy_rank_promotion("allow"):
        return jax.device_get(make_pgx(game).init(jax.random.key(0)))


@dataclasses.dataclass(frozen=True)
class Pgx(Env):
    """Actions are written as their numbers; a text is the packed state."""

    game: str

    packed = False

    def __post_init__(self):
        if self.game in DICE:
            raise ValueError(f"pgx:{self.game} rolls inside its step, which a search cannot see; use {self.game!r}")
        if self.game not in LIMITS:
            raise ValueError(
                f"pgx:{self.game} is no game of perfect information without chance; known: {', '.join(LIMITS)}"
            )
        first, (max_plies, max_legal) = beginning(self.game), LIMITS[self.game]
        facts = {
            "name": f"pgx:{self.game}", "num_actions": len(first.legal_action_mask), "max_plies": max_plies,
            "max_legal": max_legal, "observation_shape": first.observation.shape,
        }  # fmt: skip
        for fact, value in facts.items():
            object.__setattr__(self, fact, value)  # the one way to set an attribute here: the class is frozen

    def store(self, inner: Any) -> State:
        """From Pgx's state."""
        first = int(beginning(self.game).current_player)
        rewards = inner.rewards.astype(jnp.float32)
        return State(
            with_rules_mask(inner.replace(**dict.fromkeys(STORED)), None),
            jnp.packbits(inner.legal_action_mask),
            (inner.current_player != first).astype(jnp.int8),
            inner.terminated,
            rewards[::-1] if first else rewards,
        )

    def restore(self, state: State) -> Any:
        """Pgx's state, but for its observation."""
        first = int(beginning(self.game).current_player)
        legal = self.legal_actions(state)
        return with_rules_mask(state.inner, legal).replace(
            current_player=jnp.where(state.player == 0, first, 1 - first).astype(jnp.int32),
            observation=jnp.zeros(self.observation_shape, beginning(self.game).observation.dtype),
            rewards=state.rewards[::-1] if first else state.rewards,
            terminated=state.terminated,
            truncated=jnp.bool(False),
            legal_action_mask=legal,
        )

    def init(self, key: jax.Array) -> State:
        return self.store(jax.tree.map(jnp.asarray, beginning(self.game)))

    def step(self, state: State, action: jax.Array) -> State:
        with jax.numpy_rank_promotion("allow"):  # Pgx relies on it
            return self.store(make_pgx(self.game).step(self.restore(state), action))

    def legal_actions(self, state: State) -> jax.Array:
        return jnp.unpackbits(state.legal, count=self.num_actions).astype(bool)

    def observe(self, state: State) -> jax.Array:
        with jax.numpy_rank_promotion("allow"):
            return make_pgx(self.game).observe(self.restore(state)).astype(jnp.float32)

    def action_to_str(self, state: State, action: int) -> str:
        return str(action)

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        leaves = jax.tree.leaves(dataclasses.replace(state, rewards=np.zeros(0)))
        return base64.b64encode(zlib.compress(b"".join(np.asarray(leaf).tobytes() for leaf in leaves))).decode()

    def from_text(self, text: str) -> State:
        blank = self.init(jax.random.key(0))
        leaves, tree = jax.tree.flatten(dataclasses.replace(blank, rewards=np.zeros(0, np.float32)))
        try:
            packed = zlib.decompress(base64.b64decode(text, validate=True))
        except (ValueError, zlib.error):
            packed = b""
        if len(packed) != sum(leaf.nbytes for leaf in leaves):
            raise ValueError(f"{self.name}: {text!r} is no position as `to_text` writes it")
        read, start = [], 0
        for leaf in leaves:
            part = np.frombuffer(packed[start : start + leaf.nbytes], leaf.dtype)
            read.append(jnp.asarray(part.reshape(leaf.shape)))
            start += leaf.nbytes
        return dataclasses.replace(jax.tree.unflatten(tree, read), rewards=jnp.zeros(2, jnp.float32))

    def to_svg(self, state: State, before: State | None = None) -> str:
        return self.restore(state).to_svg()
