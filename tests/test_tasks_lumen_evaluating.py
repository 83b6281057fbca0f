"""scion lumen evaluate: the rivals' figures by their definitions, files of answers, the adapter of a run."""

import json
import math
import random
import sys

import pytest

from scionwood.cli import main
from scionwood.errors import UserError
from scionwood.tasks.lumen import synthetic
from scionwood.tasks.lumen.evaluating import evaluate_file
from scionwood.tasks.lumen.generator import Generator
from scionwood.tasks.lumen.rows import row_of
from scionwood.tasks.lumen.vocabulary import AFFINITY, INQUIRY, PATTERN_WEIGHTS, TOKENS

# How many rows of each shape the published recorded test set has: its rivals' published figures depend on nothing else but its labels.
RECORDED = {"convergence": 333, "settled_presence": 143, "falling_energy": 8, "rising_entropy": 6, "entropy_spike_recovery": 4,
            "void_rising": 2, "basin_transition_down": 2, "basin_transition_up": 2}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """500 rows with the shapes of the recorded test set, labelled as it was: generator(42 + row)."""
    path, values, k = tmp_path_factory.mktemp("rows") / "rows.jsonl", [], 0
    for shape, n in RECORDED.items():
        for i in range(n):
            window = synthetic.trajectory(shape, synthetic.seed_of(shape, i % 5))
            values.append(row_of(shape, window, Generator(42 + k).generate(shape)).value())
            k += 1
    path.write_text("".join(json.dumps(v) + "\n" for v in values))
    return path


def fits(shape: str, weigh, sharp: float = 1.0) -> float:
    """The expected coherence of drawing by the rules' patterns with other token weights: worked out by hand, token by token."""
    w = {t: weigh(shape, t) ** sharp for t in TOKENS}
    patterns = [p**sharp for p in PATTERN_WEIGHTS[shape]]
    fit, total = AFFINITY[shape], sum(w.values())
    first = sum(w[t] for t in fit) / total
    second = third = 0.0
    for a in TOKENS:
        for b in TOKENS:
            if a != b and w[a] and w[b]:
                p = w[a] / total * w[b] / (total - w[a])
                second += p * (b in fit)
                left = total - w[a] - w[b]
                third += p * sum(w[c] for c in fit if c not in (a, b)) / left
    asked = sum(t in fit for t in INQUIRY) / len(INQUIRY)
    parts = (first, (first + second) / 2, (first + second + third) / 3, first, (first + asked) / 2)
    return sum(p * x for p, x in zip(patterns, parts)) / sum(patterns)


def expected(weigh, sharp: float = 1.0) -> float:
    return sum(n * fits(s, weigh, sharp) for s, n in RECORDED.items()) / 500


WEIGHTS = {"uniform": lambda s, t: 1.0, "affine": lambda s, t: float(t in AFFINITY[s]),
           "rules": lambda s, t: 3.0 if t in AFFINITY[s] else 1.0}


def test_the_rivals_score_as_their_definitions_say(rows):
    names = ["constant-stillness", "constant-resonance", "commonest", "affine-single", "affine", "uniform", "uniform-triple",
             "rules", "rules-at-0.3", "labels"]
    found = {f.name: f.figures for f in evaluate_file(rows, names, seeds=6)}
    value = {name: {k: v["value"] for k, v in f.items()} for name, f in found.items()}
    for name, token, macro in (("constant-stillness", "stillness", 3 / 8), ("constant-resonance", "resonance", 2 / 8)):
        share = sum(n for s, n in RECORDED.items() if token in AFFINITY[s]) / 500
        assert value[name]["coherence"] == pytest.approx(share) and value[name]["macro_coherence"] == pytest.approx(macro)
    assert value["constant-stillness"]["coherence"] == pytest.approx(0.968)
    assert value["constant-resonance"]["coherence"] == pytest.approx(0.952)
    assert value["commonest"]["coherence"] == value["affine-single"]["coherence"] == 1
    for name, published in (("affine", 0.974), ("uniform", 0.262), ("rules", 0.505)):
        assert expected(WEIGHTS[name]) == pytest.approx(published, abs=0.01)  # the published figures, up to their own chance
        assert value[name]["coherence"] == pytest.approx(expected(WEIGHTS[name]), abs=4 * 0.02 / math.sqrt(6))
    assert expected(WEIGHTS["rules"], 1 / 0.3) == pytest.approx(0.928, abs=0.01)
    assert value["rules-at-0.3"]["coherence"] == pytest.approx(expected(WEIGHTS["rules"], 1 / 0.3), abs=0.02)
    assert value["uniform-triple"]["coherence"] == pytest.approx(4 / 15, abs=0.03)
    assert value["labels"]["pattern_accuracy"] == value["labels"]["exact_rate"] == 1
    singles = sum(v["pattern"] == "SINGLE" for v in map(json.loads, rows.read_text().splitlines())) / 500
    assert value["constant-stillness"]["pattern_accuracy"] == pytest.approx(singles)
    assert all(v["valid_rate"] == v["strict_valid_rate"] == 1 for v in value.values())
    assert "sd" in found["affine"]["coherence"] and "sd" not in found["commonest"]["coherence"]


def test_a_file_of_answers_is_scored_by_row_or_in_order(rows, tmp_path):
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    texts = [v["messages"][2]["content"] for v in lines]
    ordered, named, own = tmp_path / "ordered.jsonl", tmp_path / "named.json", tmp_path / "rows.json"
    ordered.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    shuffled = [{"case": k + 1, "text": t} for k, t in enumerate(texts)][:400]
    random.Random(0).shuffle(shuffled)
    named.write_text(json.dumps(shuffled))
    own.write_text(json.dumps(lines))
    one, part, same = (f.figures for f in evaluate_file(rows, [str(ordered), str(named), str(own)], resamples=60))
    assert one["exact_rate"]["value"] == same["exact_rate"]["value"] == 1
    assert part["exact_rate"]["value"] == 0.8 and part["valid_rate"]["value"] == 0.8  # no answer is a failure
    assert part["coherence"]["value"] < one["coherence"]["value"]
    assert part["exact_rate"]["low"] < 0.8 < part["exact_rate"]["high"]
    assert one["coherence"]["low"] < one["coherence"]["value"] < one["coherence"]["high"]
    lax = tmp_path / "lax.jsonl"
    lax.write_text(json.dumps({"case": 1, "text": "EISV_TOKENS: ~warmth~ ~warmth~ ~warmth~\nLUMEN_TOKENS: cold\nPATTERN: SINGLE"}) + "\n")
    (found,) = evaluate_file(rows, [str(lax)], resamples=10)
    assert found.figures["valid_rate"]["value"] == 1 / 500 and found.figures["strict_valid_rate"]["value"] == 0


@pytest.mark.parametrize("text, message", [
    ('{"text": "a"}\n', "1 answers to 500 rows"), ('{"answer": "a"}\n', 'an object with "text"'),
    ('{"case": 501, "text": "a"}\n', "case 501 is no row"),
    ('{"case": 1, "text": "a"}\n{"case": "rows-1", "text": "a"}\n', "answered twice"),
    ('{"case": [1], "text": "a"}\n', "is no row"), ("{\n", "not valid JSON")])
def test_a_wrong_file_of_answers_is_one_line(rows, tmp_path, text, message):
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        evaluate_file(rows, [str(path)])


def test_what_is_no_system_is_named(rows, tmp_path):
    with pytest.raises(UserError, match="did you mean 'affine'"):
        evaluate_file(rows, ["afine"])
    with pytest.raises(UserError, match="not a run folder"):
        evaluate_file(rows, [str(tmp_path)])
    with pytest.raises(UserError, match="no such file"):
        evaluate_file(tmp_path / "none.json", [])
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="has no rows"):
        evaluate_file(tmp_path / "empty.jsonl", [])


def scion(monkeypatch, capsys, *args: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["scion", *args])
    code = 0
    try:
        main()
    except SystemExit as e:
        code = e.code or 0
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_command_prints_a_table_or_json(rows, monkeypatch, capsys):
    code, out, _ = scion(monkeypatch, capsys, "lumen", "evaluate", str(rows), "--system", "labels", "--system", "affine", "--seeds", "2")
    assert code == 0 and out.startswith("500 rows\n") and len(out.splitlines()) == 4 and "0.97" in out.splitlines()[-1]
    code, out, _ = scion(monkeypatch, capsys, "lumen", "evaluate", str(rows), "--system", "constant-stillness", "--json")
    (found,) = json.loads(out)
    assert code == 0 and found["rows"] == 500 and found["figures"]["coherence"]["value"] == pytest.approx(0.968)
    assert found["figures"]["coherence_convergence"]["value"] == 1 and "js_distance" in found["figures"]
    code, out, err = scion(monkeypatch, capsys, "lumen", "evaluate", str(rows) + "x")
    assert code == 2 and err.startswith("scion: ") and "no such file" in err
