"""Playing against a network: a game on the host, and who talks about it."""
