"""What a run leaves on disk, and how it is shown: folder, checkpoints, metrics, curves, progress."""
