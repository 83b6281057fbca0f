"""The student: assembly that cannot contradict itself, four forms that decide alike, an honest split, figures that mean what they say."""

import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from scionwood.cli.lumen import app
from scionwood.errors import UserError
from scionwood.tasks.lumen.grammar import in_notation, sequences, text_of
from scionwood.tasks.lumen.shapes import SHAPES
from scionwood.tasks.lumen.student import compact, distil, evaluate, forests, onnx_export, portable
from scionwood.tasks.lumen.student.assemble import EARLIER, FORESTS, NONE, allowed, decide, drawing, drawn, likeliest, steps
from scionwood.tasks.lumen.student.examples import (Example, Window, on_one_scale, shuffled_numbers, split_by_time, taught_by_rules,
                                                    taught_in_rows)
from scionwood.tasks.lumen.student.features import NAMES, NUMBERS, features_of, float32s
from scionwood.tasks.lumen.synthetic import row
from scionwood.tasks.lumen.vocabulary import PATTERNS, TOKENS, pattern_of

ROOT = Path(__file__).resolve().parent.parent
LEGAL = set(sequences())
WIDTH = len(NAMES)


def windows(n, seed=0, telling=False):
    """Windows whose first number carries something; times rise."""
    rng = random.Random(seed)
    return [Window(f"w{k}", SHAPES[k % 9],
                   tuple(rng.choice((0.0, 1.0)) if d == 0 and telling else rng.gauss(0, 1) for d in range(12)), k, k + 0.5)
            for k in range(n)]


@pytest.fixture(scope="module")
def fitted():
    """Small forests that look at the numbers, and their exports."""
    examples = taught_by_rules(windows(450))
    return forests.fit([(e.features(), e.tokens) for e in examples], trees=6, leaf=3)


@pytest.fixture(scope="module")
def forms(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    portable.export(fitted, folder / "student.json")
    return {"sklearn": forests.scorer(fitted), "json": portable.JsonStudent(folder / "student.json")}, folder


@pytest.fixture(scope="module")
def onnx(fitted, forms):
    pytest.importorskip("skl2onnx", reason="pip install 'scionwood[student]'")
    pytest.importorskip("onnxruntime", reason="pip install 'scionwood[student]'")
    onnx_export.export(fitted, forms[1] / "onnx")
    return onnx_export.OnnxStudent(forms[1] / "onnx")


# -- assembly --------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_an_expression_never_contradicts_its_pattern(rng, zeros):
    def scores(name, x):
        return [rng.choice((0.0, rng.random())) if zeros else rng.random() for _ in range(FORESTS[name])]

    for choose in (likeliest, drawing(rng), drawing(rng, 0.3)):
        said = decide(scores, [0.0] * WIDTH, choose)
        assert pattern_of(said.tokens) == said.pattern and said.tokens in LEGAL


def test_every_legal_expression_can_be_said_and_taught():
    """Scores that want an expression get it, and what is taught of it is what the assembly would ask."""
    for tokens in sequences():
        asked = {}

        def scores(name, x):
            before, answer = steps(tokens)[name]
            assert x[WIDTH:] == before
            asked[name] = answer
            return [float(c == answer) for c in range(FORESTS[name])]

        assert decide(scores, [0.0] * WIDTH, likeliest).tokens == tokens and asked == {k: v for k, (_, v) in steps(tokens).items()}


def test_what_may_follow_is_never_empty():
    for pattern in ("PAIR", "TRIPLE", "QUESTION"):
        for a in range(len(TOKENS)):
            for b in allowed(pattern, [a]):
                assert b != NONE and (pattern == "PAIR" or allowed(pattern, [a, b]))


def test_both_notations_are_learnt_from():
    for tokens in sequences():
        card, rows = (in_notation(tokens, n) for n in ("card", "rows"))
        assert drawn(rows.pattern, rows.tokens) == tokens
        assert pattern_of(drawn(card.pattern, card.tokens)) == pattern_of(tokens)
        if rows.pattern != "QUESTION":
            assert drawn(card.pattern, card.tokens) == tokens
    assert drawn("PAIR", ("warmth",)) is None and drawn("TRIPLE", ("warmth", "ripple", "warmth")) is None


def test_a_low_temperature_prefers_the_likeliest_and_nothing_weighed_is_even():
    rng = random.Random(0)
    weights = [0.3, 0.4, 0.3]
    cold = [drawing(rng, 0.05)(weights, range(3)) for _ in range(200)]
    assert cold.count(1) > 190
    assert {drawing(rng)([0, 0, 0], [0, 2]) for _ in range(50)} == {0, 2} and likeliest([1, 1], [0, 1]) == 0


# -- forms that decide alike -----------------------------------------------------------------------------------------------


def inputs(fitted):
    """Inputs for every forest: any float32, and values at and beside the thresholds that its trees ask."""
    thresholds = sorted({float(t) for f in fitted.values() for e in f.estimators_
                         for t, l in zip(e.tree_.threshold, e.tree_.children_left) if l >= 0})
    beside = st.sampled_from(thresholds).flatmap(lambda t: st.sampled_from(
        [t, float(np.nextafter(t, np.inf)), float(np.nextafter(t, -np.inf)), float(np.nextafter(np.float32(t), np.float32(np.inf))),
         float(np.nextafter(np.float32(t), np.float32(-np.inf))), t + 1e-9, t - 1e-9]))
    number = (beside | st.floats(-3, 3) | st.floats(width=32, allow_nan=False, allow_infinity=False)
              | st.sampled_from([0.0, -0.0, 1e-45, 0.1 + 0.2]))
    earlier = {"pattern": len(PATTERNS), "token1": len(TOKENS), "token2": len(TOKENS)}
    return st.sampled_from(list(FORESTS)).flatmap(lambda name: st.tuples(
        st.just(name), st.lists(number, min_size=12, max_size=12), st.sampled_from(SHAPES),
        st.tuples(*(st.integers(0, earlier[e] - 1).map(float) for e in EARLIER[name]))))


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_json_gives_scikit_learns_answers_to_the_bit(fitted, forms, data):
    name, numbers, shape, before = data.draw(inputs(fitted))
    x = [*numbers, *features_of([0.0] * 12, shape)[12:], *before]
    assert forms[0]["json"](name, x) == forms[0]["sklearn"](name, x)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_onnx_gives_scikit_learns_answers_to_the_bit(fitted, forms, onnx, data):
    name, numbers, shape, before = data.draw(inputs(fitted))
    x = [*numbers, *features_of([0.0] * 12, shape)[12:], *before]
    ours, theirs = onnx(name, x), forms[0]["sklearn"](name, x)
    assert ours == [float(np.float32(v)) for v in theirs]  # ONNX gives float32: the same number, rounded once
    assert int(np.argmax(ours)) == int(np.argmax(theirs))


def test_all_forms_say_the_same(fitted, forms, onnx, tmp_path):
    compact.export(fitted, tmp_path / "c.safetensors")
    packed = compact.CompactStudent(tmp_path / "c.safetensors")
    same = 0
    for e in taught_by_rules(windows(150, seed=5)):
        said = [decide(s, e.features(), likeliest) for s in (forms[0]["sklearn"], forms[0]["json"], onnx, packed)]
        assert said[0] == said[1] == said[2]
        same += said[3] == said[0]
    assert same >= 147  # 16 bits a weight: only what all but ties may differ


def test_settled_forests_ask_float32_thresholds_and_hold_weights_of_the_grid(fitted):
    for forest in fitted.values():
        for e in forest.estimators_:
            assert (e.tree_.threshold == e.tree_.threshold.astype(np.float32)).all()
            assert (e.tree_.value * forests.GRID % 1 == 0).all()


def test_settling_keeps_every_float32_on_its_side():
    x = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    y = np.eye(2)[(x[:, 0] > x[:, 1]).astype(int)]
    from sklearn.ensemble import RandomForestRegressor

    raw = RandomForestRegressor(5, random_state=0).fit(x, y)
    before = raw.apply(x)
    assert (forests.settle(raw).apply(x) == before).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_numbers_that_no_float32_holds_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        features_of([0.0] * 11 + [bad], SHAPES[0])
    with pytest.raises(ValueError, match="nine shapes"):
        features_of([0.0] * 12, "unclassified")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-3e38, max_value=3e38), max_size=5))
def test_float32_rounding_is_numpys(values):
    assert float32s(values) == np.array(values, np.float32).astype(float).tolist()


# -- files that cannot be trusted ------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_broken_compact_file_is_refused_or_still_decides(data):
    raw = bytearray(compact.SHIPPED.read_bytes())
    kind = data.draw(st.sampled_from(["cut", "bytes", "length"]))
    if kind == "cut":
        raw = raw[:data.draw(st.integers(0, len(raw) - 1))]
    elif kind == "length":
        raw[:8] = struct.pack("<Q", data.draw(st.integers(0, 2**63)))
    else:
        for _ in range(data.draw(st.integers(1, 6))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = _scratch / "broken.safetensors"
    path.write_bytes(bytes(raw))
    try:
        student = compact.CompactStudent(path)
    except UserError as e:
        assert "\n" not in str(e)
        return
    assert student.decide([0.1] * 12, SHAPES[3], likeliest).tokens in LEGAL


@pytest.fixture(autouse=True, scope="module")
def _scratch_folder(tmp_path_factory):
    global _scratch
    _scratch = tmp_path_factory.mktemp("scratch")


@pytest.mark.parametrize("change, word", [
    (lambda c: c.update(format="x"), "version"), (lambda c: c.update(tokens=[]), "other features"),
    (lambda c: c["forests"]["pattern"][0]["left"].__setitem__(0, 0), "nowhere"),
    (lambda c: c["forests"]["pattern"][0]["feature"].__setitem__(0, 99), "nowhere"),
    (lambda c: c["forests"]["token1"][0]["threshold"].pop(), "length"), (lambda c: c["forests"].pop("token3"), "token3")])
def test_a_broken_json_student_is_refused(forms, tmp_path, change, word):
    content = json.loads((forms[1] / "student.json").read_text())
    change(content)
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=word):
        portable.JsonStudent(tmp_path / "s.json")


def test_the_compact_file_is_safetensors(fitted, tmp_path):
    from safetensors.numpy import load_file

    compact.export(fitted, tmp_path / "c.safetensors", {"teacher": "the rules"})
    arrays = load_file(tmp_path / "c.safetensors")
    assert set(arrays) == {f"{f}.{p}" for f in FORESTS for p in compact.PARTS}
    assert compact.CompactStudent(tmp_path / "c.safetensors").about["teacher"] == "the rules"


def test_the_student_that_ships():
    assert compact.SHIPPED.stat().st_size < 500_000
    student, choose = compact.CompactStudent(), drawing(random.Random(0))
    for e in taught_by_rules(windows(300, seed=9)):
        said = student.decide(e.window.numbers, e.window.shape, choose)
        assert said.tokens in LEGAL and pattern_of(said.tokens) == said.pattern
    test = taught_by_rules(windows(900, seed=10), seed=3)
    figures = evaluate.figures(student, test)
    assert figures["coherence"] > 0.9 and figures["js_tokens"] < 0.25
    assert figures["changed_without_numbers"] == 0  # the rules see the shape alone


# -- split, figures --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), min_size=40, max_size=80))
def test_no_time_stands_on_both_sides(times):
    assume(len({a for a, _ in times}) >= 20)
    examples = [Example(Window(str(k), SHAPES[0], (0.0,) * 12, a, a + n), ("warmth",)) for k, (a, n) in enumerate(times)]
    parts = split_by_time(examples)
    for early, late in (("train", "dev"), ("dev", "test"), ("train", "test")):
        assert not parts[early] or not parts[late] or max(e.window.end for e in parts[early]) < min(e.window.start for e in parts[late])
    assert parts["test"] and len({e.window.id for v in parts.values() for e in v}) == sum(map(len, parts.values()))


def test_too_few_times_are_refused():
    with pytest.raises(UserError, match="too few"):
        split_by_time(taught_by_rules(windows(9)))


def test_shuffling_keeps_shapes_and_answers_and_moves_numbers():
    test = taught_by_rules(windows(60))
    moved = shuffled_numbers(test)
    assert [(e.window.shape, e.tokens) for e in moved] == [(e.window.shape, e.tokens) for e in test]
    assert sorted(e.window.numbers for e in moved) == sorted(e.window.numbers for e in test)
    assert [e.window.numbers for e in moved] != [e.window.numbers for e in test]


def teacher_of_numbers(ws):
    """A teacher who looks at a number: above one half it is warm, else still."""
    return [Example(w, ("warmth",) if w.numbers[0] > 0.5 else ("stillness", "stillness")) for w in ws]


def test_a_teacher_who_looks_at_numbers_has_a_student_who_does(tmp_path):
    lines = []
    report = distil.distil(teacher_of_numbers(windows(400, telling=True)), tmp_path, {"teacher": "a test"}, trees=20, say=lines.append)
    full, small, look = (report["figures"][k] for k in ("full", "compact", "lookup"))
    assert report["chosen"].startswith("numbers") and min(full["expression_agreement"], small["expression_agreement"]) > 0.97
    assert look["expression_agreement"] < 0.7 and 0.3 < full["changed_without_numbers"] < 0.7
    assert report["contradictions"] == 0 and report["compact_against_full"]["same_answers"] > 0.97
    assert {p.name for p in tmp_path.iterdir()} == {"student.json", "student.safetensors", "onnx", "report.json"}
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_a_teacher_who_does_not_has_one_who_does_not(tmp_path):
    report = distil.distil(taught_by_rules(windows(900)), tmp_path, {}, trees=10, say=lambda line: None)
    assert report["chosen"] == "the shape alone"
    for name in ("full", "compact"):
        assert report["figures"][name]["changed_without_numbers"] == report["figures"][name]["agreement_lost_without_numbers"] == 0
    assert report["figures"]["full"]["js_tokens"] < 0.6 * report["figures"]["lookup"]["js_tokens"]
    assert "compact against full" in distil.table(report)


def test_log_likelihood_is_that_of_the_assembly(fitted):
    """Against the product along the way, forest by forest."""
    from math import log

    scores = forests.scorer(fitted)
    for e in taught_by_rules(windows(12, seed=4)):
        total = 0.0

        def follow(weights, classes):
            nonlocal total
            answer = next(answers)
            total += log(max(distil.TINY, weights[answer] / sum(weights[c] for c in classes)))
            return answer

        answers = iter([a for _, a in steps(e.tokens).values()])
        decide(scores, e.features(), follow)
        assert distil.log_likelihoods(fitted, [e])[0] == pytest.approx(total)


# -- teachers --------------------------------------------------------------------------------------------------------------


def test_rows_and_answers_of_a_file(tmp_path):
    rows = [row(shape, i) for shape in SHAPES for i in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r.value()) + "\n" for r in rows))
    taught, left = taught_in_rows(tmp_path / "rows.jsonl")
    assert len(taught) == 27 and left == 0
    assert taught[0].window.numbers[:4] == pytest.approx(rows[0].numbers.means, abs=1e-4) and len(NUMBERS) == 12
    texts = [text_of(in_notation(("ripple", "ripple"), "card"), "card"), "~ripple~ and more", *["~warmth~"] * 25]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"case": f"rows-{k}", "text": t}) + "\n" for k, t in enumerate(texts, 1)))
    taught, left = taught_in_rows(tmp_path / "rows.jsonl", tmp_path / "a.jsonl")
    assert left == 1 and taught[0].tokens == ("ripple", "ripple") and taught[1].tokens == ("warmth",)
    (tmp_path / "a.jsonl").write_text(json.dumps({"case": 3, "text": "~warmth~ ~ripple~"}) + "\n")
    taught, left = taught_in_rows(tmp_path / "rows.jsonl", tmp_path / "a.jsonl")
    assert left == 26 and taught[0].window.numbers[:4] == pytest.approx(rows[2].numbers.means, abs=1e-4)


def test_two_sources_share_one_scale():
    a = on_one_scale(windows(10))
    assert a[0].start == 0 and max(w.end for w in a) == 1 and on_one_scale([]) == []


def test_distil_from_the_command_line(tmp_path):
    rows = [row(shape, i) for shape in SHAPES for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r.value()) + "\n" for r in rows))
    command = ["distil", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "s"), "--trees", "4"]
    got = CliRunner().invoke(app, command, catch_exceptions=False)
    assert got.exit_code == 0 and "lookup" in got.stdout and "contradictions: 0" in got.stdout
    assert compact.CompactStudent(tmp_path / "s" / "student.safetensors").about["windows"] == "rows of rows.jsonl"


@pytest.mark.parametrize("arguments, word", [(["no-such"], "neither"), (["rules", "--answers", "x"], "--answers goes with"),
                                             (["x.jsonl:y"], "neither")])
def test_mistakes_are_told(arguments, word):
    with pytest.raises(UserError, match=word):
        CliRunner().invoke(app, ["distil", *arguments], catch_exceptions=False)


def test_a_system_of_a_run_teaches(tmp_path):
    import tomli_w

    from scionwood.task import load_task
    from scionwood.tasks.lumen.student.examples import taught_in_run

    lock = {"name": "x", "task": "lumen", "base": "embedded", "task_options": {"test": 4}}
    (tmp_path / "recipe.lock.toml").write_text(tomli_w.dumps(lock))
    cases = load_task("lumen", test=4).cases("test")
    rows = [{"case": c.id, "status": "ok", "answer": {"tokens": ["warmth"], "pattern": "SINGLE"}} for c in cases]
    rows[0] = {"case": cases[0].id, "status": "timeout"}
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "t.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    taught, left = taught_in_run(tmp_path, "t")
    assert len(taught) == 35 and left == 1 and {e.tokens for e in taught} == {("warmth",)}
    with pytest.raises(UserError, match="no system 'u'"):
        taught_in_run(tmp_path, "u")


def test_the_figures_in_the_docs_are_those_of_the_student_that_ships():
    path = ROOT / "docs" / "lumen.md"
    if not path.exists():
        pytest.skip("not a checkout: no docs/")
    report = json.loads(compact.SHIPPED.with_name("shipped.json").read_text())
    assert distil.table(report) in path.read_text() and report["bytes"]["compact"] == compact.SHIPPED.stat().st_size
