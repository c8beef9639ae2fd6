"""Exact solvers of small games: oracles for tests and evaluation, slow and plain."""
