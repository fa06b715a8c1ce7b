"""Training runs as batched tensor programs."""
