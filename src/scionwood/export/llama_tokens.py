"""How llama.cpp itself splits a text into tokens: what Ollama, LM Studio or a bare llama-server would do with our file."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Sequence

from scionwood.errors import UserError


def llama_tokens(model: Path, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, control tokens read as such, from the tokenizer inside a GGUF file.

    A llama.cpp server on loopback, behind a random key, is asked once per text and stopped again.
    """
    import httpx

    from scionwood.models.llamacpp import check_gguf

    check_gguf(model)
    try:
        import xllamacpp
    except ImportError as e:
        raise UserError(f"GGUF files are checked by the package xllamacpp, which cannot be imported ({e}); "
                        "pip install 'scionwood[export]'") from None
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup = str(model), 512, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    key = secrets.token_urlsafe(32)
    params.hostnames, params.port, params.api_keys, params.cors_origins, params.ui = ["127.0.0.1"], 0, [key], "", False
    params.cache_ram_mib, params.fit_params, params.verbosity = 0, False, -1
    try:
        server = xllamacpp.Server(params)
    except RuntimeError:
        raise UserError(f"{model}: llama.cpp cannot load it; export it anew") from None
    with httpx.Client(base_url=server.listening_address, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False) as client:
        replies = [client.post("/tokenize", json={"content": t, "add_special": False, "parse_special": True}) for t in texts]
    return [reply.raise_for_status().json()["tokens"] for reply in replies]
