import re

import pytest
import yaml
from evidence_fakes import answers, system
from evidence_page_fakes import CASES, TASK, make_context, make_figures

from scionwood.errors import UserError
from scionwood.evidence.card import render_card
from scionwood.evidence.figures import compute

FIGURES, CONTEXT = make_figures(), make_context()
CARD = render_card(FIGURES, CONTEXT)


def front(card):
    return yaml.safe_load(card.split("---\n")[1])


def opening(card):
    return card.split("\n# ", 1)[1].split("\n\n")[1]


def tables(card):
    """{caption: rows of cells, the titles first}."""
    out = {}
    for caption, body in re.findall(r"^(.+):\n\n((?:\|.*\n)+)", card, re.M):
        rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in body.splitlines()]
        out[caption] = [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set(":- ")]
    return out


def leaves(value):
    if isinstance(value, (dict, list)):
        for v in value.values() if isinstance(value, dict) else value:
            yield from leaves(v)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


def test_the_same_input_gives_the_same_bytes():
    assert render_card(make_figures(), make_context()) == CARD


def test_front_matter():
    meta = front(CARD)
    assert meta["base_model"] == "Qwen/Qwen3-0.6B"
    assert meta["library_name"] == "peft" and meta["pipeline_tag"] == "text-generation"
    assert {"scionwood", "lora"} <= set(meta["tags"]) and meta["language"] == ["en", "zh"] and meta["license"] == "apache-2.0"
    metric, = meta["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == FIGURES["systems"]["adapter"]["over_seeds"]["parity recall"]["mean"]


@pytest.mark.parametrize("base", ["embedded", "/home/someone/base", "./base"])
def test_a_base_that_the_hub_does_not_know_is_left_out_of_the_front_matter(base):
    card = render_card(FIGURES, make_context(base=base))
    assert "base_model" not in front(card) and "/home" not in card


def test_every_number_of_the_tables_is_in_figures_or_context():
    confusion = FIGURES["systems"]["adapter"]["runs"][0]["confusion"]
    known = [*leaves(FIGURES), *leaves(CONTEXT), *(sum(row.values()) for table in confusion.values() for row in table.values())]
    found = tables(CARD)
    assert len(found) >= 11
    for caption, rows in found.items():
        if caption.startswith("The recipe"):
            continue
        for row in rows[1:]:
            # names stand in code spans; percentages of intervals stand in titles
            text = re.sub(r"`[^`]*`", "", " ".join(row)).replace("\u2212", "-").replace(",", "")
            for token in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?", text.replace("< 0.0001", "")):
                decimals = len(token.partition(".")[2])
                assert any(abs(float(token) - k) <= .5000001 * 10 ** -decimals for k in known), (caption, token)


def test_an_edited_figure_changes_the_card():
    figures = make_figures()
    figures["systems"]["adapter"]["runs"][0]["figures"]["accuracy"]["low"] = .1234
    assert "0.123 to" in render_card(figures, CONTEXT)


def test_a_better_adapter():
    first = opening(CARD)
    assert "is **better** than the untuned base" in first and "**better** than the strongest rival, `majority`" in first
    assert "mean of 2 seeds" in first and "beat" not in first


def test_a_losing_adapter_is_told_in_the_first_paragraph():
    first = opening(render_card(make_figures(lambda k: k % 7 == 0, rival=lambda k: k % 8, base=lambda k: k % 9), CONTEXT))
    assert "The adapter is **worse** than the untuned base" in first
    assert "It is **worse** than the strongest rival, `majority`" in first


def test_an_adapter_like_its_base_cannot_be_told_apart():
    first = opening(render_card(make_figures(lambda k: k % 4 == 1), CONTEXT))
    assert "**cannot be told apart** from the untuned base" in first
    assert "smallest difference that this set could have shown" in first


def test_other_rivals_that_are_not_beaten_are_named():
    rivals = [system(n, "rival", answers(CASES, lambda i, k=k: i // 2 % 20 != k)) for k, n in enumerate(("one", "two"))]
    figures = compute(TASK, CASES, [system("base", "base", answers(CASES, lambda i: False)), *rivals,
                                    system("adapter", "adapter", answers(CASES, lambda i: i // 2 % 2))])
    context = make_context(seeds=(0,))
    weaker = {"one": "two", "two": "one"}[figures["strongest"]["name"]]
    assert f"Nor does it beat `{weaker}` (**" in opening(render_card(figures, context))


def test_a_control_that_leaks_is_told_in_the_first_paragraph():
    first = opening(render_card(make_figures(leak=True), CONTEXT))
    assert "The control `shuffled-labels` scores **above chance**" in first


def test_failures_of_every_system_are_counted():
    row = next(r for r in tables(CARD)["Status of every case, and latency percentiles in milliseconds"] if "always" in r[0])
    assert row[0] == r"`always\|none`" and row[2:7] == ["0", "0", "0", "80", "0"]


def test_mcnemar_is_given_per_seed():
    rows = tables(CARD)["Exact McNemar per job and seed, as gains / losses, p"]
    assert rows[0][-2:] == ["seed 0", "seed 1"]
    seed = FIGURES["comparisons"][0]["jobs"]["parity"]["seeds"][1]
    row = next(r for r in rows if r[:2] == ["`base`", "`parity`"])
    assert row[-1].startswith(f"{seed['gains']} / {seed['losses']}, ")


def test_nothing_of_the_machine_is_told():
    assert "/home" not in CARD and "`teacher`" in CARD
    assert "scion run digits.toml" in CARD and "scion verify runs/digits" in CARD and "scion memory" not in CARD
    assert '"adapter/adapter-0/best"' in CARD


def test_one_seed_is_a_limit():
    card = render_card(make_figures(seeds=(3,)), make_context(seeds=(3,)))
    assert "One seed was trained" in card and "(one seed; 95 % interval" in opening(card) and '"adapter/adapter-3/best"' in card


def test_no_adapter():
    with pytest.raises(UserError, match="no adapter among the systems"):
        render_card(compute(TASK, CASES, [system("base", "base", answers(CASES, lambda i: i % 2))]), CONTEXT)


def test_an_adapter_alone_and_without_sources_enough():
    figures = compute(TASK, CASES[:8], [system("adapter", "adapter", answers(CASES[:8], lambda i: i % 2))])
    card = render_card(figures, make_context(seeds=(0,)) | {"logs": {}, "training": {}})
    assert "compared with nothing" in opening(card) and "No control was run" in card and "No interval could be given for" in card


def test_a_control_with_less_training_is_said_to_have_had_less():
    from scionwood.evidence.told_details import shorter

    assert "trained for 34% of the adapter's steps" in shorter({"recipe": {"evidence": {"control_share": 0.34}}})
    assert shorter({"recipe": {"evidence": {"control_share": 1.0}}}) == shorter({"recipe": {}}) == ""
