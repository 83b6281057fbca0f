"""State: from readings to E, I, S and V by the published formulas, with every intermediate value visible."""
