"""The engine: probabilities and texts are those of transformers, no request leaks into another, and mistakes are one line."""

import json
import threading
import time

import pytest
from engine_fakes import log_probs, write_tiny

from scionwood.errors import UserError
from scionwood.models.llamacpp import LlamaCpp, check_gguf, json_grammar, lark_grammar
from scionwood.models.sampling import COLDEST, LAST_SEED, Drawing

pytest.importorskip("xllamacpp")
CLOSE = 0.02  # the key-value cache is in float16
PROMPTS = [[11, 500, 23, 7, 900, 41] * 8, [8187, 300, 301, 302] * 10, [77] * 30]
CHARACTER = [233, 247, 101]  # bytes that are no character by themselves


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tokenizer):
    return write_tiny(tmp_path_factory.mktemp("gguf"), tokenizer)


@pytest.fixture(scope="module")
def engine(tiny):
    with LlamaCpp(tiny[1], context=512, slots=2, threads=1) as engine:
        yield engine


@pytest.mark.parametrize("prompt", PROMPTS)
def test_scores_are_transformers_own(engine, tiny, prompt):
    continuations = [[5], [5, 6], [5, 7, 8188], [100, 7000], [4000, 2, 1], *[[t, 65] for t in CHARACTER]]
    wanted = [sum(log_probs(tiny[0], prompt, c)) for c in continuations]
    assert engine.score(prompt, continuations) == pytest.approx(wanted, abs=CLOSE)


def test_rare_tokens_are_scored_as_well_as_likely_ones(engine, tiny):
    import torch

    prompt = PROMPTS[0]
    with torch.no_grad():
        row = tiny[0](torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    order = row.argsort(descending=True).tolist()
    picked = [order[0], order[63], order[64], order[4000], order[-1]]
    got = engine.next_log_probs(prompt, picked)
    assert [got[t] for t in picked] == pytest.approx(row[picked].tolist(), abs=CLOSE)
    assert float(row[order[-1]]) < -12


@pytest.mark.parametrize("options", [[5, 6], [6, 5, 100, 7000, 8188], CHARACTER, list(range(40, 140))])
def test_branches_are_scaled_to_sum_one(engine, tiny, options):
    import torch

    for prompt in PROMPTS:
        with torch.no_grad():
            row = tiny[0](torch.tensor([prompt])).logits[0, -1]
        got = engine.branch(prompt, options)
        assert [got[t] for t in options] == pytest.approx(row[options].log_softmax(-1).tolist(), abs=CLOSE)


def test_a_branch_may_hold_the_plain_token_and_needs_no_request_alone(engine, tiny):
    import torch

    options = [engine._plain, 5, 6]
    with torch.no_grad():
        wanted = tiny[0](torch.tensor([PROMPTS[0]])).logits[0, -1][options].log_softmax(-1).tolist()
    got = engine.branch(PROMPTS[0], options)
    assert [got[t] for t in options] == pytest.approx(wanted, abs=CLOSE)
    assert engine.branch([10**9], [5]) == {5: 0.0}


def test_greedy_tokens_are_transformers_own(engine, tiny, tokenizer):
    """Each token is the likeliest after those before it. A random model writes halves of characters; every token is told all the same."""
    import torch

    for prompt in PROMPTS:
        done = engine.generate(prompt, max_tokens=24)
        with torch.no_grad():
            rows = tiny[0](torch.tensor([prompt + done.tokens])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        picked = rows[range(len(done.tokens)), done.tokens]
        assert float((rows.max(-1).values - picked).max()) < CLOSE
        assert done.prompt_tokens == len(prompt)
        assert done.finish_reason == ("stop" if done.tokens[-1] == tokenizer.eos_token_id else "length")
        assert len(done.tokens) == 24 or done.finish_reason == "stop"
        assert tokenizer.decode(done.tokens, skip_special_tokens=True).startswith(done.text.rstrip("\ufffd"))


def test_no_request_leaks_into_another(tiny):
    """A, B, A: the second A reads from the cache what the first left, and is answered to the bit as if there had been no B."""
    a, b = PROMPTS[0], [*PROMPTS[0][:20], *PROMPTS[2]]
    with LlamaCpp(tiny[1], context=512, threads=1) as engine:
        def ask(prompt):
            return engine.branch(prompt, [5, 6, 7, 8]), engine.score(prompt, [[5, 6], [9]]), engine.generate(prompt, max_tokens=12).tokens

        first, again, other = ask(a), ask(a), ask(b)
        assert ask(a) == again and ask(b) != again
        assert again[0] == pytest.approx(first[0], abs=CLOSE) and again[2] == first[2]
    with LlamaCpp(tiny[1], context=512, threads=1) as engine:
        alone = engine.branch(b, [5, 6, 7, 8]), engine.score(b, [[5, 6], [9]]), engine.generate(b, max_tokens=12).tokens
    assert other[0] == pytest.approx(alone[0], abs=CLOSE) and other[1] == pytest.approx(alone[1], abs=CLOSE) and other[2] == alone[2]


def test_a_bias_and_a_grammar_end_with_their_request(engine):
    free = engine.generate(PROMPTS[1], max_tokens=10)
    engine.branch(PROMPTS[1], [5, 6])
    engine.generate(PROMPTS[1], max_tokens=10, schema={"enum": ["x"]})
    assert engine.generate(PROMPTS[1], max_tokens=10).tokens == free.tokens


def test_warmed_prefixes_stay_in_the_cache(tiny):
    stems = [[n, *range(100, 180)] for n in (1, 2)]
    with LlamaCpp(tiny[1], context=256, slots=3, threads=1) as engine:
        for stem in stems:
            engine.warm(stem)
        engine.generate([9] * 100, max_tokens=2)
        for tail in (5, 7):
            for stem in stems:
                assert engine.generate([*stem, tail, 6], max_tokens=2).cached_tokens == len(stem)  # what another tail added is forgotten


SCHEMA = {"type": "object", "properties": {"kind": {"enum": ["plan", "person"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
          "required": ["kind", "n"], "additionalProperties": False}


def test_json_follows_its_schema_compactly(engine):
    for prompt in PROMPTS:
        done = engine.generate(prompt, max_tokens=40, schema=SCHEMA)
        value = json.loads(done.text)
        assert done.finish_reason == "stop" and done.text == json.dumps(value, separators=(",", ":"))
        assert list(value) == ["kind", "n"] and value["kind"] in ("plan", "person") and 0 <= value["n"] <= 99


def test_a_text_follows_its_grammar(engine):
    done = engine.generate(PROMPTS[0], max_tokens=40, lark='start: ("ab" | "ba") /[0-9]{3}/')
    assert done.finish_reason == "stop" and done.text[:2] in ("ab", "ba") and done.text[2:].isdigit() and len(done.text) == 5


def test_an_answer_that_is_cut_says_so(engine):
    done = engine.generate(PROMPTS[0], max_tokens=5, schema={"type": "string", "minLength": 50, "maxLength": 60})
    assert done.finish_reason == "length" and len(done.tokens) == 5


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"type": "string", "pattern": "(?<=a)b"},
                                    {"type": "string", "format": "no-such"}])
def test_a_schema_that_llamacpp_would_drop_is_refused(engine, schema):
    with pytest.raises(UserError, match="JSON schema: it cannot be decoded") as e:
        engine.generate(PROMPTS[0], max_tokens=5, schema=schema)
    assert "\n" not in str(e.value)


def test_a_grammar_that_cannot_be_followed_is_refused():
    with pytest.raises(UserError, match="grammar: it cannot be decoded"):
        lark_grammar("start: nothing_of_that_name")
    assert json_grammar({"enum": ["é"]}).endswith('"whitespace_flexible": false}}')


def test_deadlines_stop_the_work(tiny):
    with LlamaCpp(tiny[1], context=512, threads=1) as engine:
        for ask in (lambda d: engine.generate(PROMPTS[0], max_tokens=400, schema={"type": "string", "minLength": 900}, deadline=d),
                    lambda d: engine.score(PROMPTS[0], [[5, 6]], deadline=d), lambda d: engine.branch(PROMPTS[0], [5, 6], deadline=d)):
            with pytest.raises(TimeoutError):
                ask(time.monotonic() - 1)
        with pytest.raises(TimeoutError):
            engine.generate(PROMPTS[0], max_tokens=440, schema={"type": "string", "minLength": 4000}, deadline=time.monotonic() + 0.02)
        assert engine.generate(PROMPTS[0], max_tokens=3).finish_reason == "length"  # and leave the engine as it was


def test_an_answer_in_time_is_the_same_with_a_deadline(engine):
    for prompt in PROMPTS:
        far = time.monotonic() + 60
        engine.branch(prompt, [5, 6, 7])  # what is read anew and what comes from the cache differ by roundings
        assert engine.branch(prompt, [5, 6, 7], deadline=far) == engine.branch(prompt, [5, 6, 7])
        assert engine.score(prompt, [[5, 6], [7]], deadline=far) == engine.score(prompt, [[5, 6], [7]])
        with_, without = (engine.generate(prompt, max_tokens=12, deadline=d) for d in (far, None))
        assert (with_.text, with_.finish_reason) == (without.text, without.finish_reason)


def test_streamed_pieces_are_the_whole_text_though_tokens_are_lost(engine, tokenizer):
    """A random model writes halves of characters; of those, llama.cpp streams the last token alone."""
    lost = 0
    for seed in range(12):
        with_, without = (engine.generate(PROMPTS[0], max_tokens=40, drawing=Drawing(1.0, seed=seed), deadline=d)
                          for d in (time.monotonic() + 60, None))
        assert "".join(with_.pieces) == with_.text and with_.text == without.text.rstrip("\ufffd") and without.pieces is None
        assert with_.written == without.written == len(without.tokens) >= len(with_.tokens) == len(with_.pieces)
        lost += with_.written - len(with_.tokens)
    assert lost


def test_a_drawing_is_repeated_by_its_seed_and_writes_nothing_that_is_barred(engine, tokenizer):
    drawn = [engine.generate(PROMPTS[1], max_tokens=12, drawing=Drawing(1.0, seed=s), anew=True).tokens for s in (0, LAST_SEED, 0)]
    assert drawn[0] == drawn[2] != drawn[1]
    greedy = engine.generate(PROMPTS[1], max_tokens=12)
    assert engine.generate(PROMPTS[1], max_tokens=12, anew=True).cached_tokens == 0
    for cold in (0.0, COLDEST / 2, 1e-39, 1e-300):  # what has no place in float32 is no other distribution
        assert engine.generate(PROMPTS[1], max_tokens=12, drawing=Drawing(cold)).tokens == greedy.tokens
    barred = tuple(sorted({*greedy.tokens, tokenizer.eos_token_id}))
    for temperature in (0.0, 0.05):
        done = engine.generate(PROMPTS[1], max_tokens=60, drawing=Drawing(temperature, seed=1, barred=barred))
        assert not set(done.tokens) & set(barred) and done.finish_reason == "length"


def test_many_threads_get_what_one_gets(engine):
    alone = [engine.branch(p, [5, 6, 7]) for p in PROMPTS]
    got: dict = {}

    def work(n):
        for k in range(6):
            got[n, k] = engine.branch(PROMPTS[(n + k) % 3], [5, 6, 7])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(got) == 24 and all(v == pytest.approx(alone[(n + k) % 3], abs=CLOSE) for (n, k), v in got.items())


def test_a_prompt_beyond_the_context_is_one_line(engine):
    with pytest.raises(UserError, match="a prompt of 600 tokens, more than its context of 512"):
        engine.branch([5] * 600, [5, 6])
    with pytest.raises(RuntimeError, match="invalid tokens"):
        engine.generate([10**8], max_tokens=1)


def test_a_closed_engine_refuses(tiny):
    engine = LlamaCpp(tiny[1], context=64, threads=1)
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.generate([5], max_tokens=1)


def test_files_that_are_none(tmp_path, tiny):
    with pytest.raises(UserError, match="cannot be read"):
        LlamaCpp(tmp_path / "gone.gguf")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(UserError, match="not a GGUF file"):
        check_gguf(tmp_path / "text.gguf")
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(tiny[1].read_bytes()[:100_000])
    with pytest.raises(UserError, match="llama.cpp cannot load it"):
        LlamaCpp(torn)


def test_an_adapter_file_changes_the_answers(tmp_path, tiny, tokenizer):
    """A LoRA file beside the base gives what the merged weights give."""
    import torch
    from peft import LoraConfig, get_peft_model

    from scionwood.export.gguf import write_gguf
    from scionwood.export.gguf_lora import write_lora_gguf
    from conftest import tiny_model

    torch.manual_seed(3)
    model = get_peft_model(tiny_model(), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]))
    for name, p in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.3)
    model.save_pretrained(tmp_path / "adapter")
    lora = write_lora_gguf(tiny[0].config, tmp_path / "adapter", tmp_path / "lora.gguf", {"name": "tiny"})
    whole = write_gguf(model.merge_and_unload(), tokenizer, tmp_path / "merged.gguf", "f32", {"name": "tiny"})
    with LlamaCpp(tiny[1], context=128, threads=1) as base, LlamaCpp(tiny[1], adapter=lora, context=128, threads=1) as adapted, \
            LlamaCpp(whole, context=128, threads=1) as merged:
        got, wanted, before = (e.next_log_probs(PROMPTS[2], [5, 6, 7, 8]) for e in (adapted, merged, base))
    assert got == pytest.approx(wanted, abs=CLOSE)
    assert max(abs(got[t] - before[t]) for t in got) > 0.2
