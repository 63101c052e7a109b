"""Stages of a training: where the next one begins, where all of them came from, what is given away at the end."""
