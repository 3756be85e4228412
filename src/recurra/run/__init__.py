"""The run directory: its layout, lock, weights, checkpoints and log, and how it is saved, shared and fetched."""
