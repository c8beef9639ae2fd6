"""Searches by name. A new one is one file and one line in `SEARCHES`."""

from collections.abc import Callable

from envs import Env
from jaxzero.config.schema import SearchConfig
from jaxzero.models import Model
from jaxzero.search import gumbel, minimax, puct, stock
from jaxzero.search.base import Search, SearchOutput

__all__ = ["SEARCHES", "Search", "SearchOutput", "make"]

Make = Callable[[SearchConfig, Env, Model, int], Search]

SEARCHES: dict[str, dict[str, Make]] = {  # kind -> engine
    "gumbel": {"tree": gumbel.make, "mctx": stock.gumbel},
    "puct": {"tree": puct.make, "mctx": stock.puct},
    "minimax": {"tree": minimax.make},
}


def make(config: SearchConfig, env: Env, model: Model, simulations: int | None = None) -> Search:
    """The search of a configuration (checked by `jaxzero.config.validation.validate`), with another budget if given."""
    return SEARCHES[config.kind][config.engine](config, env, model, simulations or config.simulations)
