"""Diversity: measure it honestly, keep it while training, prove it against the large."""
