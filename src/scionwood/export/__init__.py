"""From a trained adapter to files that other programs run: GGUF, merged weights, mlx-lm, Ollama, the hub."""
