"""Tiny random models of three families and small tokenizers for the tests of the NLA."""

from __future__ import annotations

from conftest import tiny_model

GEMMA_TEMPLATE = ("{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ "
                  "m['content'] | trim }}"
                  "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}")


def tiny(family: str, layers: int = 4, seed: int = 0):
    """A random model of 32 hidden units of the family qwen3, llama or gemma3, 8,192 tokens."""
    if family != "gemma3":
        return tiny_model(family, layers, seed)
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(seed)
    model = Gemma3ForCausalLM(Gemma3TextConfig(
        vocab_size=8192, hidden_size=32, intermediate_size=64, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=1024, initializer_range=0.2, sliding_window=16, query_pre_attn_scalar=8, attn_implementation="sdpa",
        layer_types=["sliding_attention" if i % 2 else "full_attention" for i in range(layers)]))
    model.requires_grad_(False)
    return model.eval()


def gemma_tokenizer(words: str, marker: str | None = "㈜"):
    """A byte-level tokenizer with a BOS before every text, as Gemma's, trained on ``words``; ``marker`` is a token of its own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    tok.train_from_iterator([words], trainers.BpeTrainer(vocab_size=400, special_tokens=specials,
                                                         initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if marker:
        tok.add_tokens([AddedToken(marker, normalized=False)])
    tok.post_processor = processors.TemplateProcessing("<bos> $A", "<bos> $A $B", [("<bos>", tok.token_to_id("<bos>"))])
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
                                   chat_template=GEMMA_TEMPLATE,
                                   additional_special_tokens=["<start_of_turn>", "<end_of_turn>"])
