"""Scales of an input: views at several sizes, one answer."""
