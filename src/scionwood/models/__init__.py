"""Bases and adapters: loading, the machine they run on, the one prompt renderer."""
