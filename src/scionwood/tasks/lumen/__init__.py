"""Lumen: a small body that feels its day, from sensor to expression."""
