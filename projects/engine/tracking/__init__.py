"""Runs that can be followed: Weights & Biases as a mirror of what a work directory holds, never a danger to the run."""
