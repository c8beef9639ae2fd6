"""AlphaZero and MuZero in JAX. `jaxzero.train.run(config)` trains; `jaxzero train PRESET` does so from a shell."""

__version__ = "0.1.0"
