"""Shared pieces of the tests: tiny random models with the real tokenizer, one thread, no network."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a forked child of a process with OpenMP threads waits for ever
os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")  # transformers' loading threads race for torch's thread pool in a forked child
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import settings

from scionwood.models.loading import embedded_folder

# The same examples in every run: a failure is one that everybody sees. HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", derandomize=True, database=None)
settings.register_profile("search", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(embedded_folder())


@pytest.fixture(scope="session")
def renderer(tokenizer):
    from scionwood.models.prompts import Renderer

    return Renderer(tokenizer)


def tiny_model(family: str = "qwen3", layers: int = 4, seed: int = 0, vocab: int = 8192):
    """A random model of 32 hidden units; the weights are spread so that logits differ clearly."""
    import torch
    from scionwood.models.attention import use_tree_attention
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    shape = dict(vocab_size=vocab, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4,
                 num_key_value_heads=2, head_dim=8, max_position_embeddings=1024, initializer_range=0.2, attn_implementation="sdpa")
    if family == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**shape, tie_word_embeddings=True))
    else:
        model = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=False))
    model.requires_grad_(False)
    return use_tree_attention(model).eval()
