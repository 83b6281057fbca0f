"""Small tokenizers of every kind that can be exported, trained in a moment on a few lines."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from scionwood.export.gguf_vocabulary import PATTERNS

TEXTS = ["The kettle is in the barn; Anna's 12345 boats aren't here.", "住在成都的猫 2024年11月",
         "naïve café — 100% ¿qué? I'll, we'VE",
         "def f(x):\n    return x  # tabs\tand  blanks\n\n\nend", "ÄÖÜ straße Привет мир 🙂👩‍🚀"] * 4
TEMPLATE = ("{{ bos_token or '' }}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}</s>\n{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>\n{% endif %}")
SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>"]
BYTE_LEVEL = {
    **{name: lambda p=pattern: [pre_tokenizers.Split(Regex(p), "isolated"),
                                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
       for pattern, name in PATTERNS.items()},
    "gpt-2": lambda: [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)],
    "smollm": lambda: [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)],
}


def byte_level(kind: str):
    """A byte-level BPE tokenizer that splits as llama.cpp's pre-tokenizer ``kind`` does."""
    steps = BYTE_LEVEL[kind]()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=480, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=SPECIAL,
                                  show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return wrapped(tokenizer)


def pieces():
    """A tokenizer in SentencePiece's manner, as Llama 2 and TinyLlama have: a blank before each stretch, bytes for the unknown."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    blocks = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=["<unk>", "<s>", "</s>", *blocks], show_progress=False, max_token_length=6)
    trained.train_from_iterator([line for line in TEXTS for line in line.split(" ")], trainer)
    import json

    # As converters from SentencePiece do: every pair that joins to a piece is a merge, in the order of the pieces.
    data = json.loads(trained.to_str())
    vocabulary = data["model"]["vocab"]
    known = sorted((i, t) for t, i in vocabulary.items() if len(t) > 1 and t not in blocks and not t.startswith("<"))
    data["model"]["merges"] = [[t[:k], t[k:]] for _, t in known for k in range(1, len(t)) if t[:k] in vocabulary and t[k:] in vocabulary]
    data["added_tokens"] = [a for a in data["added_tokens"] if a["content"] not in blocks]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens(["<|user|>"])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    return wrapped(tokenizer)


def wrapped(tokenizer):
    """The same as transformers has it, with a chat template."""
    from transformers import PreTrainedTokenizerFast

    out = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    out.chat_template = TEMPLATE
    return out
