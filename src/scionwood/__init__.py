"""Scionwood grafts a small open language model onto one job and proves with numbers that the graft took."""

__version__ = "0.1.0"
