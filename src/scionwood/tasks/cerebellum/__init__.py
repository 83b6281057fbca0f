"""Memory routing: classify a message, judge whether a text is worth keeping, arbitrate a new fact against stored ones."""
