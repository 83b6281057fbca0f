"""Fine-tuning of an adapter: examples, tree batches, losses, the loop, monitors."""
