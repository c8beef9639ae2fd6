"""Self-play, targets, replay, losses, the learner, and the host loop that runs them."""
