"""Natural language autoencoder: activation to words and back. So far the texts alone."""
