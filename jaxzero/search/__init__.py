"""Searches by name. A new one is one file, with its configuration class, and one line in `SEARCHES`."""

from collections.abc import Callable
from typing import Any

from envs import Env
from jaxzero.models import Model
from jaxzero.search import gumbel, minimax, puct
from jaxzero.search.base import Search, SearchOutput
from jaxzero.search.config import SearchConfig, TreeConfig
from jaxzero.search.gumbel import GumbelConfig
from jaxzero.search.minimax import MinimaxConfig
from jaxzero.search.puct import PuctConfig

__all__ = [
    "SEARCHES", "GumbelConfig", "MinimaxConfig", "PuctConfig", "Search", "SearchConfig", "SearchOutput", "TreeConfig",
    "make",
]  # fmt: skip

SEARCHES: dict[str, tuple[type[SearchConfig], Callable[[Any, Env, Model, int], Search]]] = {
    "gumbel": (GumbelConfig, gumbel.make),
    "puct": (PuctConfig, puct.make),
    "minimax": (MinimaxConfig, minimax.make),
}


def make(config: SearchConfig, env: Env, model: Model, simulations: int | None = None) -> Search:
    """The search of a configuration (checked by `jaxzero.config.validation.validate`), with another budget if given."""
    _, make_kind = SEARCHES[config.kind]
    return make_kind(config, env, model, simulations or config.simulations)
