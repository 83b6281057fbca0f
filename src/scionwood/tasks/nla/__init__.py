"""Natural language autoencoder: activation to words and back, and the evidence that the words carry it."""
