"""Pretraining of the small embedded base from text files: tokenizer, token streams, training, measurement."""
