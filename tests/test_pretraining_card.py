"""The card of a base says what its facts say."""

import copy
import json
import re

import pytest

from scionwood.errors import UserError
from scionwood.pretraining import card

BITS = {"bytes": 1234, "repeated": 0.37, "base": 2.468, "ngram": 3.579, "xz": 4.681}
FACTS = {
    "name": "tiny", "licence": "mit", "parameters": 7_654_321, "tokens": 8_765_432, "steps": 1071, "minutes": 61.0, "tokens_before": 0,
    "minutes_before": 0.0, "from": None, "last_loss": 3.1415, "machine": "2 threads of X", "dtype": "bf16", "languages": ["en"], "notice": False,
    "shape": {"layers": 6, "hidden": 257, "vocab_size": 8193},
    "schedule": {"muon_lr": 0.017, "adam_lr": 0.0043, "warmup_steps": 59, "decay": 0.29, "step_tokens": 4096, "row": 258, "decay_row": 515, "answer_weight": 7.5},
    "sources": {"a": {"tokens": 5432, "licence": "CC BY"}, "a+chat": {"tokens": 6543, "licence": ""}, "b+chat": {"tokens": 7654, "licence": "MIT"}},
    "bits_per_byte": {"a": {"bytes": 617, "repeated": 0.41, "base": 2.22, "ngram": 3.33, "xz": 4.44},
                      "b": {"bytes": 617, "repeated": 0.33, "base": 2.77, "ngram": 3.88, "xz": 4.99}, "all": BITS},
}
CONSTANTS = {"3", "5", "9", "200", "2", "16", "320", "50"}  # Qwen3, 5-gram, xz -9e, one in 200, Qwen2 and 2-D, bf16, U+320E, 50 steps


def numbers(text: str) -> set[str]:
    return {n.rstrip(".,") for n in re.findall(r"\d[\d.,]*", text)}


def change(value, path=()):
    """Every number in the facts, with its path."""
    for k, v in value.items():
        if isinstance(v, dict):
            yield from change(v, (*path, k))
        elif isinstance(v, (int, float)) and not isinstance(v, bool):
            yield (*path, k), v


def test_every_figure_comes_from_the_facts():
    """Each number in the facts is moved on its own; a number of the card that never moves is one that was typed."""
    plain = card.render(FACTS)
    moved = set()
    for (*way, key), value in change(FACTS):
        facts = copy.deepcopy(FACTS)
        at = facts
        for k in way:
            at = at[k]
        at[key] = type(value)(value * 2 + 1) if isinstance(value, int) else value * 1.5 + 0.11
        gone = numbers(plain) - numbers(card.render(facts))
        moved |= gone
    facts = copy.deepcopy(FACTS) | {"machine": "a CPU"}
    moved |= numbers(plain) - numbers(card.render(facts))
    assert numbers(plain) - moved <= CONSTANTS, numbers(plain) - moved - CONSTANTS


def test_it_is_deterministic_and_ignores_the_order_of_facts():
    again = json.loads(json.dumps(FACTS))
    again["sources"] = dict(reversed(again["sources"].items()))
    assert card.render(again) == card.render(FACTS)


def test_figures_stand_once_for_a_source_whatever_its_forms():
    rows = {line.split(" | ")[0][2:]: line for line in card.render(FACTS).split("\n") if line.startswith("| ")}
    assert "2.22" in rows["a"] and "– | – | –" in rows["a+chat"] and "2.77" in rows["b+chat"] and "not stated" in rows["a+chat"]


@pytest.mark.parametrize("base, verdict", [(2.0, "less than both"), (3.579, "not less than both"), (4.0, "not less than both")])
def test_the_verdict_follows_the_figures(base, verdict):
    facts = FACTS | {"bits_per_byte": {"all": BITS | {"base": base}}}
    assert f"bits per byte**: {verdict} of" in card.render(facts)


def test_earlier_runs_are_added_up():
    start = {"name": "older", "tokens": 1_000_000, "minutes": 20.0, "from": None}
    text = card.render(FACTS | {"from": start, "tokens_before": 1_000_000, "minutes_before": 20.0})
    assert "after 1,000,000 tokens in 20 minutes of earlier runs" in text and "9,765,432 tokens and 81 minutes in all" in text
    assert "continued from older" in text and "from nothing" not in text and "not of earlier ones" in text
    text = card.render(FACTS | {"from": start, "tokens_before": 1_000_000, "minutes_before": None})
    assert "after 1,000,000 tokens of earlier runs" in text and "9,765,432 tokens in all" in text
    text = card.render(FACTS | {"from": start | {"tokens": None}, "minutes_before": None})
    assert "continued from older, whose own training is not recorded here" in text and "not of earlier ones" in text


def test_what_was_not_measured_is_not_claimed():
    none = {"bytes": 0, "repeated": None, "base": None, "xz": None, "ngram": None}
    text = card.render(FACTS | {"bits_per_byte": {"all": none}, "last_loss": None})
    assert "nothing was measured" in text and "less than" not in text and "Final training loss" not in text


def test_number_format_and_languages_are_those_of_the_run():
    assert "fp32" in card.render(FACTS | {"dtype": "fp32"}) and "bf16" not in card.render(FACTS | {"dtype": "fp32"})
    assert "language: [en, zh]" in card.render(FACTS | {"languages": ["en", "zh"]})
    assert "language:" not in card.render(FACTS | {"languages": []})
    assert "NOTICE.md" in card.render(FACTS | {"notice": True}) and "NOTICE.md" not in card.render(FACTS)


def test_a_weight_of_one_is_not_worth_a_word():
    assert "weigh 7.5 times" in card.render(FACTS)
    assert "times as much" not in card.render(FACTS | {"schedule": FACTS["schedule"] | {"answer_weight": 1.0}})


def test_facts_of_earlier_versions_still_render():
    old = {k: v for k, v in FACTS.items() if k not in ("minutes_before", "from", "dtype", "languages", "notice")}
    old["bits_per_byte"] = {n: {k: v for k, v in b.items() if k != "repeated"} for n, b in old["bits_per_byte"].items()}
    text = card.render(old | {"tokens_before": 5})
    assert "bf16 autocast" in text and "English and Chinese" in text and "after 5 tokens of earlier runs" in text


def test_the_manifest_gives_licences_and_languages(tmp_path):
    assert card.licences(tmp_path) == {} and card.languages(tmp_path, ["a"]) == []
    (tmp_path / "MANIFEST.json").write_text(json.dumps({"sources": {"a": {"licence": "MIT", "lang": "en+zh"}, "b": {"lang": "de"}}}))
    assert card.licences(tmp_path) == {"a": "MIT", "b": ""}
    assert card.languages(tmp_path, ["a", "c"]) == ["en", "zh"]
    (tmp_path / "MANIFEST.json").write_text("{")
    with pytest.raises(UserError, match="MANIFEST.json: not valid JSON"):
        card.licences(tmp_path)
