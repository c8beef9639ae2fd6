"""The settings that every search has, and those that searches on a tree add."""

import dataclasses
from typing import Annotated, ClassVar, Literal

from envs import Env
from jaxzero.config.fields import COMMON, Range, Share, Simulations
from jaxzero.messages import ConfigError
from jaxzero.networks.base import NetworkConfig


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """Settings that every search has. A subclass adds its own, and the first line of its docstring is the help."""

    kind: ClassVar[str]

    simulations: Annotated[Simulations, COMMON] = 16
    """Simulations per move. minimax has none."""
    schedule: Annotated[tuple[int, ...], Range(1, 32_766)] = ()
    """Simulations per move in self-play over the run: one number for each of as many equal parts, such as 8 16 32.
    Moves are cheap while the network knows little. Empty: `simulations` throughout."""
    full_share: Annotated[float, Range(0.001, 1)] = 1.0
    """Playout cap randomization (KataGo: 0.25): the share of self-play's plies that are searched in full. The others
    get `cheap_simulations` and no noise, and the policy is not trained on them."""
    cheap_simulations: Simulations = 4
    """Simulations of the plies that are not searched in full."""
    epsilon: Share = 0.0
    """Share of self-play's moves that are drawn uniformly from the legal ones (ε-greedy)."""
    temperature: Annotated[float, Range(0.001, 100, or_zero=True), COMMON] = 1.0
    """In self-play, moves are drawn from policy^(1/temperature) for the first `temperature_plies` plies. 0: never."""
    temperature_plies: Annotated[int, Range(0, 1_000_000), COMMON] = 8
    """Plies after the opening whose moves are drawn; from then on the search's own choice is played."""

    def check(self, env: Env, network: NetworkConfig) -> None:
        """ConfigError: the search cannot run on this game with this network."""
        fewest = min(self.schedule or (self.simulations,))
        if self.full_share < 1 and self.cheap_simulations >= fewest:
            raise ConfigError(
                f"search.cheap_simulations: {self.cheap_simulations} save nothing beside the {fewest} simulations of a "
                "full search; use fewer, or search.full_share = 1"
            )

    def afresh(self) -> "SearchConfig":
        """The same search with nothing kept between moves."""
        return self

    def cost(self, simulations: int) -> float:
        """Network evaluations of a self-play move on average, where a full search takes `simulations`."""
        return self.full_share * simulations + (1 - self.full_share) * self.cheap_simulations

    def batch(self, env: Env, games: int) -> int:
        """Positions that the network evaluates at once; a tree search: one a game."""
        return games


@dataclasses.dataclass(frozen=True)
class TreeConfig(SearchConfig):
    """Settings of searches on a tree."""

    ours_only: ClassVar[tuple[str, ...]] = ("reuse_tree", "slots")
    """Settings that stock mctx does not have, each off at 0 or false."""

    engine: Literal["tree", "mctx"] = "tree"
    """tree: jaxzero's own. mctx: the same search by stock mctx, slower."""
    reuse_tree: bool = False
    """In self-play, the next search of a game starts from the subtree below the move played (gumbel: and below the
    actions that are considered again)."""
    max_depth: Annotated[int, Range(0, 1_000_000)] = 0
    """Greatest depth of a node below the root; a chance outcome counts as one. 0: no limit."""
    slots: Annotated[int, Range(0, 65_536)] = 0
    """Actions kept per node, the likeliest. 0: all that can be needed."""

    def check(self, env: Env, network: NetworkConfig) -> None:
        super().check(env, network)
        if self.engine == "mctx":
            self.check_stock(env, network)
        if self.reuse_tree and network.learned_model:
            raise ConfigError("search.reuse_tree: a subtree of a learned model holds illegal moves; leave it out")
        if self.reuse_tree and env.num_outcomes:
            raise ConfigError(f"search.reuse_tree: {env.name} has chance, below which no subtree is kept; leave it out")

    def check_stock(self, env: Env, network: NetworkConfig) -> None:
        """ConfigError: stock mctx cannot do what is asked for."""
        if env.num_outcomes:
            raise ConfigError(f"search.engine: stock mctx cannot search {env.name}, a game with chance; use tree")
        if network.outcomes(env):
            raise ConfigError('network.codes: chance outcomes need search.engine = "tree"; set it, or leave them out')
        for field in dataclasses.fields(self):
            if field.name in self.ours_only and getattr(self, field.name):
                raise ConfigError(
                    f'search.{field.name}: stock mctx cannot do this; set search.engine = "tree", or leave it out'
                )

    def afresh(self) -> "TreeConfig":
        return dataclasses.replace(self, reuse_tree=False)
