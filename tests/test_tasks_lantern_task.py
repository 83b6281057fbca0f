"""The task lantern: cases, equal lengths, scores, and what is told to the core. Runs of it are in test_tasks_lantern_flow.py."""

import json
import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import tiny_model
from scionwood.errors import UserError
from scionwood.task import ScoredRow, load_task
from scionwood.tasks.lantern import cases as data
from scionwood.tasks.lantern.answering import barred, draw_answers, length_of, surprisals
from scionwood.tasks.lantern.lengths import count, cut
from scionwood.tasks.lantern.matching import NEAR, match
from scionwood.tasks.lantern.measures.text import measure_text
from scionwood.tasks.lantern.sampling import Draw, sample
from scionwood.tasks.lantern.scores import alike_from, classes_of, coherence, score
from scionwood.tasks.lantern.task import Lantern
from scionwood.tasks.lantern.writing import STRUCTURE, asked

PROMPTS = [[5, 6, 7], [900, 20, 31, 4, 77, 8], [1, 2]]


def tasks_file(folder, *prompts, **more):
    path = folder / "tasks.jsonl"
    path.write_text("".join(json.dumps({"id": f"t{i}", "prompt": p, **more}) + "\n" for i, p in enumerate(prompts)))
    return str(path)


# -- cases -------------------------------------------------------------------------------------------------------------------


def test_the_splits_share_nothing(tmp_path):
    task = Lantern()
    splits = {s: task.cases(s) for s in ("train", "dev", "test")}
    sources = {s: {c.source for c in cases} for s, cases in splits.items()}
    assert not sources["train"] & sources["dev"] and not (sources["train"] | sources["dev"]) & sources["test"]
    assert len(splits["train"]) + len(splits["dev"]) == len(task.examples) >= 60 and len(splits["test"]) >= 50
    assert {a for c in splits["dev"] for a in c.slices} == {a for c in splits["train"] for a in c.slices}, "both authors in both splits"
    case = splits["train"][0]
    assert task.target(case) == case.reference["text"] and case.reference["twin"] not in task.target(case)
    assert case.reference["text"].count("\n\n") >= 2 and task.target(splits["test"][0]) == ""


def test_languages_and_authors_narrow_the_cases(tmp_path):
    english = Lantern(languages=["en"])
    assert {c.lang for s in ("train", "dev", "test") for c in english.cases(s)} == {"en"}
    alone = Lantern(authors=["m"], tasks=tasks_file(tmp_path, "Why is it so?"))
    assert {c.slices for c in alone.cases("train")} == {("author:m",)} and len(alone.cases("test")) == 1
    with pytest.raises(UserError, match=r"authors: 'z' wrote no examples \(known: l, m\)"):
        Lantern(authors=["z"]).cases("train")
    with pytest.raises(UserError, match="holds no prompt in zh"):
        Lantern(languages=["zh"], tasks=tasks_file(tmp_path, "Why is it so?")).cases("test")


def test_a_test_prompt_from_a_training_text_is_a_leak(tmp_path):
    row = data.read_examples(("en",))[3]
    words = row["twin"].split()
    for text in (row["prompt"], "Tell me: " + " ".join(words[20:30]), row["witness"][:200]):
        with pytest.raises(UserError, match=f"leak: test prompt 't1' shares '.*' with the training example '{row['id']}'"):
            Lantern(tasks=tasks_file(tmp_path, "What is a good question?", text)).cases("test")
    chinese = data.read_examples(("zh",))[0]
    with pytest.raises(UserError, match="leak: test prompt 't0'"):
        Lantern(tasks=tasks_file(tmp_path, "请问：" + "".join(chinese["twin"].split())[5:40])).cases("test")


@pytest.mark.parametrize("line, error", [
    ('{"id": "a"}', "tasks.jsonl:1: no prompt"), ('{"prompt": " "}', "tasks.jsonl:1: no prompt"), ("", "holds no prompt"),
    ('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}', "tasks.jsonl:2: id 'a' stands twice")])
def test_bad_task_files_are_named(line, error, tmp_path):
    (tmp_path / "tasks.jsonl").write_text(line)
    with pytest.raises(UserError, match=error):
        Lantern(tasks=str(tmp_path / "tasks.jsonl")).cases("test")


@pytest.mark.parametrize("options, error", [
    ({"word": 80}, r"\[task_options\]: unknown key 'word'; did you mean 'words'"), ({"words": 20}, "words = 20"),
    ({"answers": 1}, "answers = 1"), ({"quality": {"kind": "judge"}}, "a judge needs"),
    ({"quality": {"kind": "reward"}}, "a reward model needs"), ({"tasks": "/no/such"}, "no such file")])
def test_bad_options_are_one_line(options, error):
    with pytest.raises(UserError, match=error) as e:
        load_task("lantern", **options).cases("test")
    assert "\n" not in str(e.value)


# -- equal lengths -----------------------------------------------------------------------------------------------------------


@given(st.text(alphabet="ab c'd-é。,\n9字 ", max_size=60), st.integers(1, 8))
@settings(max_examples=300, deadline=None)
def test_what_is_cut_has_exactly_its_words(text, words):
    got = cut(text, words, "en")
    assert (got is None) == (count(text, "en") <= words)
    if got is not None:
        assert text.startswith(got) and count(got, "en") == words and not got[-1].isspace()


def test_a_word_that_has_only_begun_is_not_counted():
    assert cut("one two thr", 2, "en") == "one two" and cut("one two", 2, "en") is None
    assert cut("don't stop-me now", 2, "en") == "don't stop-me"
    chinese = "今天天气很好，我们去公园散步吧。明天可能下雨"
    got = cut(chinese, 6, "zh")
    assert chinese.startswith(got) and count(got, "zh") == 6


def test_no_answer_ends_before_its_length_and_chances_are_shared(renderer):
    model = tiny_model(layers=1)
    never = barred(renderer)
    got = draw_answers(model, PROMPTS, ["en"] * 3, "abc", renderer.tokenizer.decode, never, length_of(60), Draw())
    again = draw_answers(model, PROMPTS[:1], ["en"], "a", renderer.tokenizer.decode, never, length_of(60), Draw())
    assert again[0].text == got[0].text and again[0].ids == got[0].ids
    for a in got:
        assert not never & set(a.ids) and a.full and count(a.text, "en") == 60
        assert renderer.tokenizer.decode(a.ids).strip().startswith(a.text) and a.entropy == a.drawn > 0
        assert not renderer.tokenizer.decode(a.ids[:-1]).strip().startswith(a.text), "not a token too many"
    cold = draw_answers(model, PROMPTS[:1], ["en"], "a", renderer.tokenizer.decode, never, length_of(60), Draw(temperature=0.5))[0]
    assert cold.drawn < cold.entropy


def test_an_answer_that_never_comes_to_its_length_is_no_full_one(renderer):
    model = tiny_model(layers=1)
    full, short = (draw_answers(model, PROMPTS[:1], ["en"], "a", renderer.tokenizer.decode, barred(renderer), length, Draw())[0]
                   for length in (length_of(60), length_of(60).__class__(60, 30)))
    assert full.full and not short.full and len(short.ids) == 30 and full.ids[:30] == short.ids


def test_an_end_has_no_part_while_it_may_not_come():
    model = tiny_model(layers=1, vocab=40)
    ends = list(range(20))
    got = sample(model, PROMPTS[2:], ends, Draw(tokens=30, min_tokens=20), ["a"])[0]
    assert all(t >= 20 for t in got.ids) and len(got.ids) >= 20 and got.entropies[:20].max() <= math.log(20) + 1e-6


def test_reading_again_gives_the_surprisals_of_drawing(renderer):
    model = tiny_model(layers=2)
    never = barred(renderer)
    drawn = [sample(model, [p], never, Draw(tokens=n, min_tokens=n), [s])[0] for p, s, n in zip(PROMPTS, "abc", (9, 14, 30))]
    read = surprisals(model, PROMPTS, [d.ids for d in drawn], never)
    assert read == pytest.approx([d.surprisals.mean() for d in drawn], abs=1e-3)
    assert surprisals(model, PROMPTS[:1], [()], never) == [0.0]


# -- scores ------------------------------------------------------------------------------------------------------------------


def text(seed: int, words: int = 60, vocabulary: int = 400) -> str:
    chance = random.Random(seed)
    return " ".join(f"w{chance.randrange(vocabulary)}" for _ in range(words))


def answer(*texts, **more):
    n = len(texts)
    return {"texts": list(texts), "tokens": [9] * n, "entropy": [2.0] * n, "drawn": [1.0] * n, "surprisal": [4.0] * n,
            "ordinary": 4.0} | more


def test_scores_are_the_thermometers():
    texts = [text(i) for i in range(3)]
    got = score(answer(*texts), "en", 60)
    each = [measure_text(t, "en").measures for t in texts]
    for name, key in (("h50", "H50"), ("mtld", "MTLD"), ("e1", "E1")):
        assert got[name] == pytest.approx(sum(m[key].value for m in each) / 3), name
    assert got["repetition"] == pytest.approx(1 - sum(m["distinct-3"].value for m in each) / 3)
    assert (got["quality"], got["full_length"], got["distinct_k"]) == (1, 1, 3) and got["utility_k"] == pytest.approx(1)
    assert (got["predictive_entropy"], got["drawn_entropy"], got["surprisal"]) == (2, 1, 4)


def test_the_same_answer_again_is_worth_nothing():
    same, other = text(1), text(2)
    k = 0.2 / (1 - 0.8**3)
    got = score(answer(same, same, other), "en", 60)
    assert got["distinct_k"] == 2 and got["utility_k"] == pytest.approx(k * (1 + 0.64)) and got["quality"] == 1
    assert score(answer(other, same, same), "en", 60)["utility_k"] == pytest.approx(k * 1.8), "what comes earlier counts more"
    swapped = " ".join(same.split()[:50]) + " " + " ".join(other.split()[50:])
    assert score(answer(same, swapped), "en", 60)["distinct_k"] == 1, "most words shared: alike"


def test_both_too_likely_and_too_unlikely_lose():
    assert coherence(4.0, 4.0) == 1 and coherence(4 + math.log(2), 4) == pytest.approx(0.5) == pytest.approx(coherence(4 - math.log(2), 4))
    fine, loop, noise = (score(answer(text(1), surprisal=[s]), "en", 60)["utility_k"] for s in (4.1, 0.2, 9.0))
    assert fine > 0.9 and loop < 0.03 and noise < 0.01


def test_what_is_short_or_failed_counts_and_is_worth_nothing():
    got = score(answer(text(1), text(2, words=30)), "en", 60)
    assert got["full_length"] == got["quality"] == 0.5 and got["distinct_k"] == 1
    assert got["utility_k"] == pytest.approx(0.2 / (1 - 0.64)) and got["h50"] == score(answer(text(1)), "en", 60)["h50"]
    assert score(None, "en", 60) == {"utility_k": 0, "distinct_k": 0, "quality": 0, "full_length": 0}
    assert "h50" not in score(answer("two words"), "en", 60)


def test_a_judges_word_goes_before_the_words():
    got = score(answer(text(1), text(2), quality=[0.25, 0.75], classes=[0, 0]), "en", 60)
    assert got["quality"] == 0.5 and got["distinct_k"] == 1 and got["utility_k"] == pytest.approx(0.25 * 0.2 / 0.36)
    elsewhere = Lantern().parse(None, " a text ")
    assert elsewhere == {"texts": ["a text"]} and score(elsewhere, "en", 60)["utility_k"] == 0


def test_alike_is_what_ordinary_prose_hardly_ever_is():
    assert 0.1 < alike_from("en", 60) < alike_from("en", 150) < 0.2
    sets = [frozenset("abcd"), frozenset("abcx"), frozenset("wxyz"), frozenset("abcd")]
    assert classes_of(sets, 0.5) == [0, 0, 1, 0] and classes_of(sets, 0.7) == [0, 1, 2, 0] and classes_of([], 0.5) == []


def test_metrics_are_means_over_prompts_and_by_kind(tmp_path):
    path = tmp_path / "tasks.jsonl"
    rows = [{"id": str(i), "prompt": f"what of {i}", "kind": "fact" if i else "insight"} for i in range(3)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    task = Lantern(tasks=str(path), words=60)
    answers = [answer(text(1)), None, answer(text(1), text(1))]
    rows = [ScoredRow(c, a, "ok", task.score(c, a)) for c, a in zip(task.cases("test"), answers)]
    metrics = {m.name: m for m in task.metrics()}
    value = {n: m.function(m.select(rows)) for n, m in metrics.items()}
    assert value["utility_k_insight"] == pytest.approx(1) and value["utility_k"] == pytest.approx((1 + 0 + 0.2 / 0.36) / 3)
    assert value["utility_k_fact"] == pytest.approx(0.1 / 0.36) and metrics["repetition"].better == "lower"
    assert value["h50"] == pytest.approx(rows[0].scores["h50"]), "an answer that is not there has no figure of diversity"


# -- matching, prompts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [0.7, 2.0, 3.1, 6.0])
def test_matching_finds_the_temperature(wanted):
    found = match(lambda t: 4 * t / (1 + t / 4), wanted)
    assert abs(found["entropy"] - wanted) <= NEAR and found["tried"][0][0] == 1
    assert [found["temperature"], found["entropy"]] in found["tried"]


def test_what_cannot_be_matched_gets_the_nearest():
    found = match(lambda t: min(t, 2.0), 7.0)
    assert found["entropy"] == 2 and len(found["tried"]) <= 12


def test_the_structure_is_asked_for_even_where_no_system_message_may_be(renderer):
    messages = [{"role": "user", "content": "Why?"}]
    tokenizer = renderer.tokenizer
    assert STRUCTURE in tokenizer.decode(asked(renderer, messages, STRUCTURE))
    assert STRUCTURE not in tokenizer.decode(asked(renderer, messages))

    class NoSystem(type(renderer)):
        def text(self, messages, answer=None):
            if messages[0]["role"] == "system":
                raise UserError("refuses a system message")
            return super().text(messages, answer)

    assert f"{STRUCTURE}\n\nWhy?" in tokenizer.decode(asked(NoSystem(tokenizer), messages, STRUCTURE))


# -- Mistral -------------------------------------------------------------------------------------------------------------------


def test_mistral_trains_as_its_own_forward_says(renderer, tmp_path):
    from test_training_trees import ROWS, plain_loss, tree_loss
    from transformers import MistralConfig, MistralForCausalLM

    from scionwood.models.adapters import add_adapter
    from scionwood.models.attention import use_tree_attention
    from scionwood.models.loading import load_model
    from scionwood.models.settings import Adapter
    from scionwood.training.examples import build

    torch.manual_seed(0)
    shape = dict(vocab_size=8192, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, head_dim=8, max_position_embeddings=512, initializer_range=0.2)
    MistralForCausalLM(MistralConfig(**shape, sliding_window=None)).save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "tokenizer_config.json").write_text("{}")
    model = add_adapter(use_tree_attention(load_model(str(tmp_path / "m"), torch.device("cpu"), torch.float32)), Adapter(rank=2), 0)
    examples = build(renderer, ROWS, 512)
    loss = tree_loss(model, examples, tmp_path, [list(range(len(examples.items)))])
    assert loss.item() == pytest.approx(plain_loss(model, examples).item(), rel=1e-5)
    config = json.loads((tmp_path / "m" / "config.json").read_text()) | {"sliding_window": 4096}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="attends within a window of 4096 tokens"):
        load_model(str(tmp_path / "m"), torch.device("cpu"), torch.float32)
