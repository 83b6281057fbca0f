"""What an export cost: paired with the adapter that it was made from, equal answers counted, told in the card and the report."""

import pytest
from evidence_fakes import Digits, answers, system
from evidence_page_fakes import make_context

from scionwood.evidence.card import render_card
from scionwood.evidence.exports import NAMED
from scionwood.evidence.figures import compute
from scionwood.evidence.report import render_report

TASK = Digits()
CASES = TASK.cases("test")


def most(i):
    return i % 5 > 0


def run(*exports, gated=()):
    """Figures of a base, an adapter of two seeds and some exports of seed 1."""
    def rows(right):
        out = answers(CASES, right)
        for i in gated:
            out[i]["status"] = "gated"
        return out

    return compute(TASK, CASES, [
        system("base", "base", answers(CASES, lambda i: i % 8 == 0)), system("majority", "rival", answers(CASES, lambda i: i % 2 == 0)),
        system("adapter", "adapter", rows(lambda i: i % 3 > 0), 0), system("adapter", "adapter", rows(most), 1),
        *(system(name, "export", rows(right), 1) for name, right in exports)])


def test_an_export_is_paired_with_its_own_seed():
    (entry,) = run(("gguf:f16", most))["exports"]
    assert (entry["system"], entry["against"], entry["seed"]) == ("gguf:f16", "adapter", 1)
    assert entry["same"] == {"n": 80, "same": 80, "differ": []}
    assert entry["primary"]["difference"] == 0 and entry["primary"]["verdict"] == "cannot tell"
    assert {job: (t["gains"], t["losses"]) for job, t in entry["jobs"].items()} == {"parity": (0, 0), "digit": (0, 0)}


def test_what_is_lost_is_counted_named_and_judged():
    (f16, q4) = run(("gguf:f16", lambda i: most(i) and i != 7), ("gguf:q4_0", lambda i: most(i) and i % 2 == 0))["exports"]
    assert f16["same"] == {"n": 80, "same": 79, "differ": ["c7"]} and f16["primary"]["verdict"] == "cannot tell"
    lost = [i for i in range(80) if most(i) and i % 2]
    assert q4["same"]["same"] == 80 - len(lost) and q4["same"]["differ"] == [f"c{i}" for i in lost[:NAMED]]
    assert q4["jobs"]["parity"]["losses"] == len(lost) and q4["jobs"]["parity"]["verdict"] == q4["primary"]["verdict"] == "worse"
    assert q4["primary"]["alpha"] == pytest.approx(0.025)  # Holm runs over the two files


def test_failures_differ_and_gated_cases_are_not_counted():
    broken = answers(CASES, most)
    broken[3] = {"case": "c3", "status": "timeout"}
    systems = [system("adapter", "adapter", answers(CASES, most), 0), system("gguf:f16", "export", broken, 0)]
    (entry,) = compute(TASK, CASES, systems)["exports"]
    assert entry["same"]["differ"] == ["c3"]
    (entry,) = run(("gguf:f16", most), gated=(1, 2, 3))["exports"]
    assert entry["same"]["n"] == 77


def test_changes_of_confidence_are_told_where_there_are_any():
    sure, less = answers(CASES, most), answers(CASES, most)
    for i, (a, b) in enumerate(zip(sure, less)):
        a["confidence"], b["confidence"] = 0.9, 0.9 - (0.5 if i == 4 else 0.01)
    less[0] = {"case": "c0", "status": "timeout"}
    figures = compute(TASK, CASES, [system("adapter", "adapter", sure, 0), system("gguf:f16", "export", less, 0)])
    (entry,) = figures["exports"]
    assert entry["confidence"] == {"mean": pytest.approx((0.5 + 78 * 0.01) / 79, abs=1e-5), "largest": pytest.approx(0.5)}
    assert "rounding decided" in render_card(figures, make_context()) and "| 0.016 | 0.5 |" in render_card(figures, make_context())
    plain = run(("gguf:f16", most))
    assert plain["exports"][0]["confidence"] is None and "rounding decided" not in render_card(plain, make_context())


def test_without_exports_or_an_adapter_there_is_nothing():
    assert run()["exports"] == []
    alone = compute(TASK, CASES, [system("base", "base", answers(CASES, most)), system("gguf:f16", "export", answers(CASES, most), 0)])
    assert alone["exports"] == []
    card = render_card(run(), make_context())
    assert "export cost" not in card and "scion serve" not in card


def test_card_and_report_tell_it():
    figures = run(("gguf:f16", most), ("gguf:q4_0", lambda i: most(i) and i % 2 == 0))
    context = make_context() | {"exports": {"gguf:f16": {"bytes": 13_900_000}, "gguf:q4_0": {"bytes": 5_000_000}}}
    card, report = render_card(figures, context), render_report(figures, context)
    told = card.split("## What the export cost")[1].split("\n## ")[0]
    assert "(seed 1)" in told and "`gguf:f16`: all 80 answers are equal, and no difference to the adapter could be shown." in told
    assert "`gguf:q4_0`: 48 of 80 answers are equal, and it is **worse** than the adapter." in told
    assert "| `gguf:f16` | 13.90 | 80 | 80 |" in told and "| `gguf:q4_0` | `parity` | 40 | 0 / 32 |" in told
    assert "What the export cost" in report and "13.90" in report
    use = card.split("## How to use it")[1].split("\n## ")[0]
    assert "\nscion serve runs/digits " in use and "scion serve runs/digits " in report
    comparisons = card.split("## Comparisons")[1].split("\n## ")[0]
    assert "gguf" not in comparisons and {c["system"] for c in figures["comparisons"]} == {"adapter", "gguf:f16", "gguf:q4_0"}


def test_an_export_without_an_adapter_is_the_cards_subject():
    alone = compute(TASK, CASES, [system("base", "base", answers(CASES, lambda i: i % 8 == 0)),
                                  system("gguf:f16", "export", answers(CASES, most), 0)])
    assert "The export is **better** than the untuned base" in render_card(alone, make_context())
    assert "## Comparisons" in render_card(alone, make_context())
