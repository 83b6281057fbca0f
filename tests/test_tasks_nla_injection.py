"""The prompts and the injection: markers, neighbours, counts, norms, and the traps of each family."""

import numpy as np
import pytest
import torch

from nla_models import gemma_tokenizer, tiny
from scionwood.errors import UserError
from scionwood.models.prompts import Renderer
from scionwood.tasks.nla.injection import inject, marker_places, place, to_scale
from scionwood.tasks.nla.scale import choose_scale, norms, sweep_scale
from scionwood.tasks.nla.template import (AR, AV, SUFFIX, Marker, ar_ids, av_answer, av_prompt, explanation, find_marker, marker_place,
                                          plain, suffix_ids)

FAMILIES = ("qwen3", "llama", "gemma3")
MARKER = Marker("㈎", 70, 29, 27)
WORDS = "A summary of this text: <text> </text> <summary> <concept> </concept> the river goes past the mill"


def prompt_ids(rows: int = 1) -> torch.Tensor:
    ids = torch.arange(100, 110).repeat(rows, 1)
    ids[:, 4:7] = torch.tensor([29, 70, 27])
    return ids


# -- prompts --------------------------------------------------------------------------------------------------------------


def test_the_marker_of_the_embedded_tokenizer(tokenizer):
    marker = find_marker(tokenizer)
    assert marker.char == "㈎" and tokenizer.encode(marker.char, add_special_tokens=False) == [marker.id]
    assert tokenizer.decode([marker.left]).endswith(">") and tokenizer.decode([marker.right]).startswith("<")


def test_the_marker_of_other_tokenizers():
    assert find_marker(gemma_tokenizer(WORDS)).char == "㈜"
    # none in the block of enclosed characters: the rarest single character beyond ASCII
    fallback = gemma_tokenizer("§ § § ¶ " + WORDS, marker=None)
    found = find_marker(fallback)
    assert found.char in "§¶" and fallback.encode(found.char, add_special_tokens=False) == [found.id]
    with pytest.raises(UserError, match="no character beyond ASCII is one token"):
        find_marker(gemma_tokenizer(WORDS, marker=None))


@pytest.mark.parametrize("kind", ["embedded", "bos"])
def test_the_verbalizers_prompt_holds_the_marker_once(kind, renderer):
    renderer = renderer if kind == "embedded" else Renderer(gemma_tokenizer(WORDS))
    marker = find_marker(renderer.tokenizer)
    ids = av_prompt(renderer, marker)
    at = marker_place(ids, marker)
    assert ids.count(marker.id) == 1 and (ids[at - 1], ids[at + 1]) == (marker.left, marker.right)
    bos = renderer.tokenizer.bos_token_id if kind == "bos" else None
    assert kind == "embedded" or (ids[0] == bos and ids.count(bos) == 1), "one BOS, not two"
    assert av_prompt(renderer, marker, AV.replace("{injection_char}", "<INJECT>")) == ids


def test_prompts_without_or_with_two_markers_are_refused(renderer):
    marker = find_marker(renderer.tokenizer)
    for prompt, message in (("nothing", "0 times"), (AV + AV, "2 times"), ("a {injection_char} b", "<concept>")):
        with pytest.raises(UserError, match=message):
            av_prompt(renderer, marker, prompt)
    with pytest.raises(UserError, match="holds '㈎'"):
        av_answer(renderer, marker, "a ㈎ b")


def test_the_answer_is_what_follows_the_prompt(renderer):
    marker = find_marker(renderer.tokenizer)
    answer = av_answer(renderer, marker, "A river.")
    assert renderer.tokenizer.decode(answer) == "<explanation>A river.</explanation><|im_end|>"


@pytest.mark.parametrize("reply, text, complete", [
    ("<explanation>a b</explanation>", "a b", True), ("<explanation> a\n</explanation> more", "a", True),
    ("<explanation>a b", "a b", False),
    ("a b</explanation>", "a b", False), ("a b", "a b", False), ("", "", False), ("x<explanation>a</explanation>", "a", True)])
def test_explanations_are_read_from_replies(reply, text, complete):
    assert explanation(reply) == (text, complete)


@pytest.mark.parametrize("kind", ["embedded", "bos"])
def test_every_reconstructor_input_ends_in_the_suffix(kind, tokenizer):
    tokenizer = tokenizer if kind == "embedded" else gemma_tokenizer(WORDS)
    suffix = suffix_ids(tokenizer)
    assert suffix == tokenizer.encode(SUFFIX, add_special_tokens=False)[1:] and tokenizer.decode(suffix).endswith("<summary>")
    for text in ("A river.", "", "ends in <", "好", "a </text> b", "x" * 50, "…", "\n"):
        ids = ar_ids(tokenizer, text)
        assert ids[-len(suffix):] == suffix, text
        assert (ids[0] == tokenizer.bos_token_id) == (kind == "bos"), "Gemma's BOS is kept, others get none"
    with pytest.raises(UserError, match="reconstructor's input ends in"):
        ar_ids(type("T", (), {"encode": lambda self, t, add_special_tokens: [1, 2, 3] if "summary>" in t and "A" in t else [4, 5, 6],
                              "added_tokens_decoder": {}, "eos_token_id": None, "name_or_path": "t"})(), "a", AR)


def test_control_tokens_in_a_text_are_broken_up(tokenizer):
    text = plain(tokenizer, "a <|im_end|> b e\u0301")
    assert "<|im_end|>" not in text and "é" in text
    controls = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    assert not controls & set(ar_ids(tokenizer, "a <|im_end|> b"))


# -- injection ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_injected_row_has_exactly_the_norm_s(family):
    """Not s times its norm, and not sqrt(d) times s where embeddings are scaled."""
    model, seen = tiny(family), []
    vectors = np.random.default_rng(0).normal(size=(2, 32)).astype(np.float32) * 300
    model.model.layers[0].register_forward_pre_hook(lambda m, args, kw: seen.append((args[0] if args else kw["hidden_states"]).clone()),
                                                    with_kwargs=True)
    with inject(model, vectors, MARKER, 150.0), torch.no_grad():
        model(prompt_ids(2))
    rows = seen[0][:, 5]
    assert torch.allclose(rows.norm(dim=-1), torch.full((2,), 150.0), rtol=1e-5)
    assert torch.allclose(rows / 150, torch.from_numpy(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)), atol=1e-6)
    with torch.no_grad():
        model(prompt_ids(2))
    others = [i for i in range(10) if i != 5]
    assert torch.equal(seen[0][:, others], seen[1][:, others]) and not torch.allclose(seen[0][:, 5], seen[1][:, 5])


def test_gemma_scales_what_a_hook_sees_but_not_what_lies_in_the_file():
    """The trap: rows of the weight file are sqrt(d) times too short for a prompt built by hand."""
    model, ids = tiny("gemma3"), prompt_ids()
    layer = model.get_input_embeddings()
    rows = layer.weight[ids[0, :4]]
    assert torch.allclose(layer(ids)[0, :4], rows * 32**0.5, rtol=1e-3)
    built = place(layer(ids), ids, np.ones((1, 32)), MARKER, 7.0)
    with torch.no_grad():
        by_hand = model(inputs_embeds=built).logits
        with inject(model, np.ones((1, 32)), MARKER, 7.0):
            hooked = model(ids).logits
    assert torch.allclose(by_hand, hooked, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_injection_equals_replacing_the_embedding(family):
    model, ids = tiny(family), prompt_ids()
    v = np.random.default_rng(1).normal(size=(1, 32))
    with inject(model, v, MARKER, 3.0), torch.no_grad():
        hooked = model(ids).logits
    built = model.get_input_embeddings()(ids).clone()
    built[0, 5] = torch.from_numpy(v[0] * 3 / np.linalg.norm(v)).float()
    with torch.no_grad():
        assert torch.allclose(model(inputs_embeds=built).logits, hooked, atol=1e-4)
        assert not torch.allclose(model(ids).logits, hooked, atol=1e-2), "the hook is gone"


def test_counts_and_neighbours_are_checked_on_the_ids_that_are_fed():
    model, one = tiny("qwen3", layers=1), np.ones((1, 32))
    wrong = prompt_ids()
    wrong[0, 4] = 3
    none = torch.arange(100, 110)[None]
    first = none.clone()
    first[0, 0] = 70
    for ids, vectors, message in ((prompt_ids(2), one, "1 vectors for 2 markers"),
                                  (prompt_ids(), np.ones((2, 32)), "2 vectors for 1 markers"),
                                  (none, one, "1 vectors for 0 markers"), (wrong, one, "does not stand between tokens 29 and 27"),
                                  (first, one, "at token 0 of row 0"), (prompt_ids(), np.ones((1, 31)),
                                                                        "31 numbers into a model of width 32")):
        with pytest.raises(UserError, match=message), inject(model, vectors, MARKER, 1.0), torch.no_grad():
            model(ids)
        assert not model.get_input_embeddings()._forward_hooks
    with pytest.raises(UserError, match="never given ids"), inject(model, one, MARKER, 1.0):
        model(inputs_embeds=torch.zeros(1, 3, 32))
    assert marker_places(prompt_ids(3), MARKER).tolist() == [[0, 5], [1, 5], [2, 5]]


def test_generation_goes_on_after_the_prompt(renderer):
    model, prompt = tiny("qwen3"), prompt_ids()
    with inject(model, np.ones((1, 32)), MARKER, 5.0):
        out = model.generate(prompt, max_new_tokens=5, do_sample=False)
    assert out.shape == (1, 15)
    with pytest.raises(UserError, match="1 vectors for 0 markers"), inject(model, np.ones((1, 32)), MARKER, 5.0), torch.no_grad():
        model(prompt)
        model(torch.arange(4)[None])


def test_a_vector_of_zero_stays_zero_and_gradients_flow():
    assert to_scale(np.zeros((1, 4)), 9.0).abs().sum() == 0
    v = torch.ones(1, 32, requires_grad=True)
    place(torch.zeros(1, 10, 32), prompt_ids(), v, MARKER, 2.0)[0, 5, 0].backward()
    assert v.grad.abs().sum() > 0


# -- the scale ------------------------------------------------------------------------------------------------------------


def test_the_scale_is_a_percentile_given_or_swept():
    values = np.diag(np.arange(1.0, 102.0))
    assert norms(values).tolist() == list(range(1, 102))
    s, why = choose_scale(values)
    assert s == 76 and "75th percentile of 101 norms" in why
    assert choose_scale(values, 150) == (150.0, "injection scale 150 (given)")
    best, rows = sweep_scale([1, 10, 100], lambda s: (np.array([2.0, 1.0]), np.array([2.0, 1.0]) + (0.5 if s == 10 else 0.1)))
    assert best == 10 and [r["gap"] for r in rows] == pytest.approx([0.1, 0.5, 0.1])
