"""The sidecar: one process that answers a task's requests over HTTP, with llama.cpp inside and without torch."""
