"""Sweeps in Weights & Biases' format, run without a server: each trial is an ordinary training."""
