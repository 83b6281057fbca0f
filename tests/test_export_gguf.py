"""GGUF files say what the model says: tensors, token ids and log-probabilities, for every family and kind of tokenizer."""

import random
import unicodedata

import gguf
import numpy as np
import pytest
import torch
from conftest import tiny_model
from export_tokenizers import BYTE_LEVEL, byte_level, pieces

from scionwood.errors import UserError
from scionwood.export.check import log_probs_of
from scionwood.export.gguf import KINDS, llama3_factors, write_gguf
from scionwood.export.llama_tokens import llama_tokens
from scionwood.models.llamacpp import LlamaCpp

ABOUT = {"name": "tiny specialist", "base": "someone/tiny", "licence": "apache-2.0", "run": "abc123"}
LIMIT = {"f32": 0.01, "f16": 0.02, "q8_0": 0.3, "q4_0": 3.0}  # of a log-probability, on weights that are spread wide


def small(family: str, **config):
    """A tiny model with further settings, its weights drawn anew."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(1)
    shape = dict(vocab_size=8192, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                 head_dim=16, max_position_embeddings=512, initializer_range=0.1, attn_implementation="sdpa") | config
    kinds = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}[family]
    return kinds[1](kinds[0](**shape)).requires_grad_(False).eval()


def apart(model, path, prompt) -> float:
    """The largest difference of a log-probability among the eight likeliest next tokens."""
    ours = log_probs_of(model)(prompt, [0])[0]
    tokens = ours.topk(8).indices.tolist()
    with LlamaCpp(path, context=256) as engine:
        theirs = engine.next_log_probs(prompt, tokens)
    return max(abs(ours[t].item() - theirs[t]) for t in tokens)


def field(reader, key):
    return reader.get_field(key).contents()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family,tied", [("qwen3", True), ("qwen3", False), ("llama", True), ("llama", False)])
def test_every_family_and_kind_says_what_the_model_says(family, tied, kind, tokenizer, tmp_path):
    model = small(family, tie_word_embeddings=tied)
    path = write_gguf(model, tokenizer, tmp_path / "m.gguf", kind, ABOUT)
    prompt = tokenizer.encode("The kettle is in the barn, the boat at the harbour. 住在成都。")
    assert apart(model, path, prompt) < LIMIT[kind]
    names = {t.name for t in gguf.GGUFReader(path).tensors}
    assert ("output.weight" in names) != tied and "token_embd.weight" in names


@pytest.mark.parametrize("rope", [{"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                                   "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
                                  {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}])
def test_scaled_rotations(rope, tokenizer, tmp_path):
    model = small("llama", rope_parameters=rope)
    path = write_gguf(model, tokenizer, tmp_path / "m.gguf", "f32", ABOUT)
    prompt = tokenizer.encode("a long way of words " * 12)
    assert apart(model, path, prompt) < LIMIT["f32"]
    plain = small("llama")
    plain.load_state_dict(model.state_dict())
    assert apart(plain, path, prompt) > 5 * LIMIT["f32"]  # the scaling matters, so the check above can fail


def test_llama3_factors_are_those_of_transformers():
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    model = small("llama", head_dim=64, rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0,
                                                         "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                                         "original_max_position_embeddings": 8192})
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](model.config, "cpu")
    plain = 500000.0 ** -(np.arange(0, 64, 2) / 64)
    assert np.allclose(plain / llama3_factors(model.config), theirs.numpy(), rtol=1e-5)


def test_tensors_and_metadata(tokenizer, tmp_path):
    model = tiny_model()
    reader = gguf.GGUFReader(write_gguf(model, tokenizer, tmp_path / "m.gguf", "f32", ABOUT))
    weights = model.state_dict()
    tensors = {t.name: t for t in reader.tensors}
    assert np.array_equal(tensors["blk.1.ffn_up.weight"].data, weights["model.layers.1.mlp.up_proj.weight"].numpy())
    assert len(tensors) == len(weights) - 1  # the output head is the token table
    assert field(reader, "general.name") == "tiny specialist" and field(reader, "scionwood.run") == "abc123"
    assert field(reader, "general.license") == "apache-2.0"
    assert field(reader, "general.base_model.0.repo_url") == "https://huggingface.co/someone/tiny"
    assert field(reader, "tokenizer.chat_template") == tokenizer.chat_template
    assert field(reader, "tokenizer.ggml.add_bos_token") is False


def test_the_same_model_gives_the_same_bytes(tokenizer, tmp_path):
    a, b = (write_gguf(tiny_model(), tokenizer, tmp_path / f"{n}.gguf", "q4_0", ABOUT).read_bytes() for n in "ab")
    assert a == b


def test_kinds_of_blocks(tokenizer, tmp_path):
    """q4_0 keeps the token table at eight bits; rows that do not divide into blocks of 32 are float16."""
    model = small("qwen3", intermediate_size=72)
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(write_gguf(model, tokenizer, tmp_path / "m.gguf", "q4_0", ABOUT)).tensors}
    assert types["token_embd.weight"] == "Q8_0" and types["blk.0.ffn_up.weight"] == "Q4_0"
    assert types["blk.0.ffn_down.weight"] == "F16" and types["blk.0.attn_norm.weight"] == "F32"


def random_texts(count: int) -> list[str]:
    rng = random.Random(0)
    ranges = [(32, 127), (0xA0, 0x250), (0x400, 0x460), (0x4E00, 0x4F00), (0x3040, 0x30A0), (0x1F600, 0x1F640), (0x2000, 0x2070), (9, 14)]
    texts = []
    for _ in range(count):
        parts = [rng.choice(["the kettle", " ", "  ", "\n", "12345", "don't", "<|user|>", "\t"]) if rng.random() < 0.3
                 else chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(1, 24))]
        texts.append(unicodedata.normalize("NFC", "".join(parts)))
    return texts


@pytest.mark.parametrize("kind", [*BYTE_LEVEL, "pieces"])
def test_llama_cpp_makes_the_same_tokens(kind, tmp_path):
    tokenizer = pieces() if kind == "pieces" else byte_level(kind)
    path = write_gguf(small("llama", vocab_size=len(tokenizer) + 3, hidden_size=32, num_hidden_layers=1), tokenizer, tmp_path / "m.gguf",
                      "f16", ABOUT)
    texts = ["The kettle is in the barn; 12345 boats.", "<|user|>\nDon't we'LL\n\n住在成都</s>\n<|user|> x", *random_texts(60)]
    theirs = llama_tokens(path, texts)
    for text, ids in zip(texts, theirs):
        assert ids == tokenizer.encode(text, add_special_tokens=False), repr(text)


def test_the_shipped_tokenizer(tokenizer, tmp_path):
    path = write_gguf(tiny_model(layers=1), tokenizer, tmp_path / "m.gguf", "f16", ABOUT)
    texts = [t.replace("<|user|>", "<|im_end|>") for t in random_texts(100)]
    assert llama_tokens(path, texts) == [tokenizer.encode(t, add_special_tokens=False) for t in texts]


@pytest.mark.parametrize("change,said", [({"attention_bias": True}, "attention_bias"), ({"hidden_act": "gelu"}, "hidden_act"),
                                         ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
                                          "rope_type = 'yarn'")])
def test_what_llama_cpp_would_compute_otherwise_is_refused(change, said, tokenizer, tmp_path):
    with pytest.raises(UserError, match=said):
        write_gguf(small("llama", **change), tokenizer, tmp_path / "m.gguf", "f16", ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_split_is_refused(tmp_path):
    from tokenizers import pre_tokenizers

    tokenizer = byte_level("gpt-2")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel()])
    with pytest.raises(UserError, match="Whitespace\\+ByteLevel"):
        write_gguf(small("llama"), tokenizer, tmp_path / "m.gguf", "f16", ABOUT)


def test_a_full_disk_leaves_nothing(tokenizer, tmp_path):
    resource = pytest.importorskip("resource")
    import signal

    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, old[1]))
    try:
        with pytest.raises(UserError, match="cannot be written"):
            write_gguf(tiny_model(), tokenizer, tmp_path / "m.gguf", "f16", ABOUT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
