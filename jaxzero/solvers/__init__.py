"""Exact solvers of small games: oracles for tests and evaluation, not used in training."""
