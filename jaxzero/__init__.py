"""AlphaZero and MuZero in JAX. `jaxzero train PRESET` trains; in Python, `jaxzero.training.train.run(config)`."""

__version__ = "0.2.0"
