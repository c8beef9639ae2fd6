"""Files to copy out of this package: they read and play an exported network without JAX."""
