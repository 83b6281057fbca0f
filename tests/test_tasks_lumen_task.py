"""The task: cases, prompts, scores, distances, rivals, decoding under its grammar, and blends with a recording."""

import contextlib
import json
import math
import os
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from conftest import tiny_model
from scionwood.errors import UserError
from scionwood.evidence.intervals import percentiles, sample
from scionwood.systems.base import OK, evaluate, from_text
from scionwood.systems.json_decoding import JsonDecoder
from scionwood.task import Grammar, Invalid, ScoredRow, load_task
from scionwood.tasks.lumen import blend, distances, implied, rivals
from scionwood.tasks.lumen.generator import Generator
from scionwood.tasks.lumen.shapes import SHAPES, Point
from scionwood.tasks.lumen.task import Lumen
from scionwood.tasks.lumen.trajectories import natural, robust
from scionwood.tasks.lumen.trajectories.noise import lag1, load, measure, remainder, save
from scionwood.tasks.lumen.vocabulary import TOKENS

PROMPTS = ("card", "table", "blind")
SHARED = Path(os.environ.get("SCION_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data" / "lumen" / "training_v2"


@pytest.fixture(scope="module")
def tasks():
    return {p: Lumen(prompt=p, train=4, dev=2, test=12) for p in PROMPTS}


def rows_of(task, system, cases=None) -> list[ScoredRow]:
    cases = task.cases("test") if cases is None else cases
    return [ScoredRow(c, p.answer, p.status, task.score(c, p.answer), None, p.confidence)
            for c, p in zip(cases, evaluate(system, task, cases))]


def figure(task, name: str, rows) -> float | None:
    metric = next(m for m in task.metrics() if m.name == name)
    return metric.function(metric.select(rows))


def rival(task, name: str):
    found = next(r for r in task.rivals() if r.name == name)
    found.fit(task, task.cases("train"))
    return found


# -- cases and prompts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_task_is_whole(prompt, tasks):
    task = load_task("lumen", prompt=prompt, train=4, dev=2, test=12)
    assert isinstance(task, Lumen)
    assert task.primary in {m.name for m in task.metrics()}
    assert task.chance in {r.name for r in task.rivals()}
    seen = {}
    for split, n in (("train", 4), ("dev", 2), ("test", 12)):
        cases = task.cases(split)
        assert Counter(c.reference["shape"] for c in cases) == dict.fromkeys(SHAPES, n)
        for c in cases:
            assert seen.setdefault(c.source, split) == split  # splits share no source
            answer = task.parse(c, task.target(c))
            assert answer == {"tokens": c.reference["tokens"], "pattern": c.reference["pattern"], "strict": True}
            assert all(v == 1 for k, v in task.score(c, answer).items() if k not in ("coherence", "shape", "implied"))
            assert not any(v for k, v in task.score(c, None).items() if k not in ("shape", "implied"))
            if prompt == "blind":  # both are numbers of shapes, and not right or wrong
                assert task.score(c, answer)["implied"] == task.score(c, None)["shape"] and task.score(c, None)["implied"] == -1
        assert len({c.id for c in cases}) == len(cases)
        assert cases == tasks[prompt].cases(split)  # the same every time
    assert isinstance(task.constraint(cases[0]), Grammar)
    assert isinstance(task.parse(cases[0], task.target(cases[0]).replace("~", "")), Invalid)


def test_the_published_prompt_is_the_published_prompt(tasks):
    task = Lumen(prompt="table")
    assert [len(task.cases(s)) for s in ("train", "dev", "test")] == [1440, 180, 540]
    case = task.cases("train")[0]
    system, user = task.messages(case)
    assert user["content"].startswith(f"SHAPE: {case.reference['shape']}\nWINDOW: n_states=20 duration=")
    path = SHARED / "test.json"
    if not path.is_file():
        pytest.skip(f"the published rows are not here ({path}); SCION_SHARED names the folder that holds them")
    published = {r["messages"][1]["content"]: r for r in json.loads(path.read_text("utf-8"))}
    mine = {task.messages(c)[1]["content"]: c for c in task.cases("test")}
    assert set(published) <= set(mine)
    for text, row in published.items():
        assert [*task.messages(mine[text]), {"role": "assistant", "content": task.target(mine[text])}] == row["messages"]
    assert not set(published) & {task.messages(c)[1]["content"] for s in ("train", "dev") for c in task.cases(s)}
    own = Lumen(prompt="table", data=str(SHARED))
    assert [len(own.cases(s)) for s in ("train", "dev", "test")] == [1440, 180, 180]
    assert {own.target(c) for c in own.cases("test")} == {r["messages"][2]["content"] for r in published.values()}


def test_the_card_tells_dominant_dimension_and_trend(tasks):
    task = tasks["card"]
    by_shape = {c.reference["shape"]: task.messages(c)[1]["content"] for c in task.cases("test")}
    down = by_shape["basin_transition_down"].splitlines()
    assert down[0] == "Trajectory shape: basin_transition_down" and down[-1] == "Expression:"
    assert down[1].startswith("EISV values: E=0.") and down[2] == "Dominant dimension: E (Energy)" and down[3] == "Trend: falling"
    assert "Trend: stable" in by_shape["settled_presence"]


def test_blind_tells_no_shape(tasks):
    task = tasks["blind"]
    for case in task.cases("test"):
        system, user = task.messages(case)
        assert not any(s in system["content"] + user["content"] for s in SHAPES)
        assert [(line[0], len(line.split())) for line in user["content"].splitlines()] == [(name, 11) for name in "EISVD"]
        assert task.messages(replace(case, reference=None)) == [system, user]  # nothing in it comes from the reference


@pytest.mark.parametrize("options, message", [
    ({"prompt": "tabel"}, "did you mean 'table'"), ({"prompt": "blind", "data": "x"}, "hold no windows"),
    ({"data": "x", "test": 3}, "leave out"), ({"labels": "plain"}, "plain with prompt 'blind'"), ({"test": 0}, "expected 1 to 1000"),
    ({"train": "many"}, "expected 1 to 1000"), ({"colour": 1}, "check \\[task_options\\]")])
def test_wrong_options_are_one_line(options, message):
    with pytest.raises(UserError, match=message):
        load_task("lumen", **options)


def test_a_folder_without_rows_is_named(tmp_path):
    with pytest.raises(UserError, match="val.json"):
        Lumen(data=str(tmp_path)).cases("dev")


# -- distances -------------------------------------------------------------------------------------------------------------


def test_divergence_is_scipys():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(6), size=(2, 5))
    assert np.sqrt(distances.divergence(p, q)) == pytest.approx([jensenshannon(a, b, base=2) for a, b in zip(p, q)])
    assert distances.divergence(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(1)


def test_far_systems_are_hardly_corrected_and_equal_ones_come_to_nothing():
    odds = implied.rule_odds("rising_entropy", "card")
    q = distances.expected(distances.token_shares, odds)
    constant = np.array([distances.token_shares(("stillness",), "SINGLE")] * 40)
    plain = jensenshannon(constant[0], q, base=2) ** 2
    assert distances.corrected(constant, np.ones(40), q) == pytest.approx(plain)  # no spread, nothing to correct
    rng, es, ps = random.Random(1), list(odds), list(odds.values())
    found, uncorrected = [], []
    for _ in range(100):
        x = np.array([distances.token_shares(e.tokens, e.pattern) for e in rng.choices(es, ps, k=40)])
        found.append(distances.corrected(x, np.ones(40), q))
        uncorrected.append(distances.divergence(x.mean(0), q))
    assert abs(np.mean(found)) < 0.006 < 0.04 < np.mean(uncorrected)


def test_a_row_drawn_twice_counts_as_one_answer_with_weight_two():
    q = distances.expected(distances.pattern_shares, implied.rule_odds("convergence", "rows"))
    x = np.array([distances.pattern_shares(("return",) * k, p) for k, p in ((1, "SINGLE"), (2, "PAIR"), (2, "QUESTION"))])
    twice = distances.corrected(x, np.array([2.0, 2.0, 2.0]), q)
    assert twice == pytest.approx(distances.corrected(x, np.ones(3), q))


def test_the_metric_is_the_sum_of_its_parts_and_counts_failures(tasks):
    task = tasks["card"]
    cases = task.cases("test")
    rows = rows_of(task, rival(task, "rules"))
    parts = []
    for kind in (distances.token_shares, distances.pattern_shares):
        for shape in SHAPES:
            x = np.array([kind(tuple(r.answer["tokens"]), r.answer["pattern"]) for r in rows if r.case.reference["shape"] == shape])
            q = distances.expected(kind, implied.rule_odds(shape, "card"))
            parts.append(float(distances.corrected(x, np.ones(len(x)), q)))
    assert figure(task, "js_distance", rows) == pytest.approx(math.sqrt(max(0, sum(parts) / 18)))
    failed = [ScoredRow(c, None, "timeout", task.score(c, None)) for c in cases]
    assert figure(task, "js_distance", failed) == pytest.approx(1)  # nothing in common with the rules
    assert figure(task, "coherence", failed) == figure(task, "valid_rate", failed) == 0
    assert figure(task, "js_distance", []) is None and figure(task, "diversity", failed) is None


def test_the_rules_are_nearest_to_themselves_and_a_lookup_is_far():
    task = Lumen(prompt="card", train=20, test=60)
    value = {name: figure(task, "js_distance", rows_of(task, rival(task, name)))
             for name in ("rules", "uniform", "rules-at-0.3", "commonest", "constant-stillness")}
    assert value["rules"] < 0.1 < value["uniform"] < value["rules-at-0.3"] < value["commonest"] < value["constant-stillness"]
    rows = rows_of(task, rival(task, "uniform"))
    metric = next(m for m in task.metrics() if m.name == "js_distance")
    low, high = percentiles(sample(metric, rows, resamples=100).replicates)
    assert low < value["uniform"] < high


# -- scores and rivals -----------------------------------------------------------------------------------------------------


def test_lax_answers_count_as_valid_and_not_as_strict(tasks):
    task = tasks["table"]
    case = next(c for c in task.cases("test") if c.reference["pattern"] == "SINGLE")
    text = "EISV_TOKENS: " + " ".join(["~warmth~"] * 40) + "\nLUMEN_TOKENS: cold\nPATTERN: SINGLE"
    found = task.score(case, task.parse(case, text))
    assert (found["valid"], found["strict"], found["pattern_correct"], found["exact"]) == (1, 0, 1, 0)
    empty = task.score(case, task.parse(case, "EISV_TOKENS:\nLUMEN_TOKENS:\nPATTERN: SINGLE"))
    assert "coherence" not in empty and empty["valid"] == 1
    assert from_text(task, case, "hello").status == "invalid"


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_rival_is_legal_and_the_same_each_time(prompt, tasks):
    task = tasks[prompt]
    names = [r.name for r in task.rivals()]
    assert len(set(names)) == len(names) and {"rules-at-0.3", "affine", "uniform", "constant-stillness", "commonest"} <= set(names)
    assert ("logistic" in names) == (prompt == "blind")
    for one, other in zip(task.rivals(), task.rivals()):
        for r in (one, other):
            r.fit(task, task.cases("train"))
        rows = rows_of(task, one)
        assert figure(task, "strict_valid_rate", rows) == 1
        assert [r.answer for r in rows] == [r.answer for r in rows_of(task, other)]
        if one.name in ("affine-single", "rules-at-0.1") and prompt == "card":
            assert figure(task, "coherence", rows) > 0.95


def test_the_commonest_token_falls_to_the_first_of_equals(tasks):
    found = rivals.Commonest("card")
    found.fit(tasks["card"], [])
    assert set(found.best.values()) == {TOKENS[0]}


def test_blind_scores_the_shape_that_is_implied(tasks):
    task = tasks["blind"]
    cases = task.cases("test")

    class Knows(rivals.Logistic):
        def fit(self, task, cases):
            self.task = task

        def answer(self, case):
            shape = case.reference["shape"]
            return rivals.speak(shape, self.notation), 0.75 * implied.telling_odds(shape, "card")[implied.plainest(shape, "card")]

    knows = Knows("card", False)
    knows.fit(task, cases)
    rows = rows_of(task, knows)
    assert figure(task, "shape_macro_f1", rows) == figure(task, "shape_accuracy", rows) == 1
    assert figure(task, "shape_calibration_error", rows) == pytest.approx(0.25)  # always right, and three quarters sure
    assert figure(task, "js_distance", rows) > 0.5  # one expression for each shape is a table
    still = rows_of(task, rival(task, "constant-stillness"))
    assert figure(task, "shape_macro_f1", still) == 0 and figure(task, "shape_calibration_error", still) is None
    said = {"tokens": ["holding"], "pattern": "SINGLE", "strict": True}
    holding = [ScoredRow(c, said, OK, task.score(c, said)) for c in cases]
    assert figure(task, "shape_macro_f1", holding) == pytest.approx(2 / 10 / 9)  # precision 1/9, recall 1, for one shape of nine
    assert figure(task, "f1_settled_presence", holding) == pytest.approx(0.2)
    assert task.label(cases[0], cases[0].reference) == cases[0].reference["shape"]
    assert task.label(cases[0], {"tokens": ["stillness"], "pattern": "SINGLE", "strict": True}) == "(none)"


@pytest.mark.parametrize("labels", ["drawn", "plain"])
def test_a_logistic_regression_feels_most_shapes(labels):
    task = Lumen(prompt="blind", train=40, test=12, labels=labels)
    said = {task.target(c) for c in task.cases("train")}
    assert len(said) == 9 if labels == "plain" else len(said) > 50
    rows = rows_of(task, rival(task, "logistic"))
    assert figure(task, "shape_macro_f1", rows) > 0.6
    assert figure(task, "shape_calibration_error", rows) < 0.25
    assert figure(task, "shape_macro_f1", rows_of(task, rival(task, "robust-rules"))) > 0.8


# -- decoding --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_random_model_is_strictly_valid_by_construction(prompt, temperature, tasks, renderer):
    task = tasks[prompt]
    cases = task.cases("test")[::27]
    system = JsonDecoder("tiny", "base", tiny_model(layers=2), renderer, task, contextlib.nullcontext, temperature=temperature)
    rows = rows_of(task, system, cases)
    assert [r.status for r in rows] == [OK] * len(cases)
    assert figure(task, "strict_valid_rate", rows) == 1
    assert all(0 < r.confidence <= 1 for r in rows)
    again = JsonDecoder("tiny", "base", tiny_model(layers=2), renderer, task, contextlib.nullcontext, temperature=temperature)
    assert [r.answer for r in rows_of(task, again, cases[::-1])] == [r.answer for r in rows][::-1]  # whatever was asked before


# -- windows with measured noise -------------------------------------------------------------------------------------------


def test_natural_windows_have_their_shape_and_the_recordings_noise():
    noise = load()
    found = natural.windows(noise, 30, 0)
    right = Counter(shape for shape, _, points in found if robust.classify(points) == shape)
    assert all(right[s] >= (12 if s == "convergence" else 24) for s in SHAPES)  # convergence starts with a move, which may be taken for one
    for shape, k, points in found:
        assert len(points) == 20 and all(b.t - a.t == 2 for a, b in zip(points, points[1:]))
        assert all(0 <= v <= 1 for p in points for v in p[1:5]) and all(p.V <= 0.3 for p in points)
        if shape == "settled_presence":
            real, mine = np.array(noise.remainders[k]), np.array(remainder(points))
            assert np.allclose(mine, real, atol=3e-4) or np.allclose(mine, real[:, ::-1], atol=3e-4)
    assert natural.windows(noise, 2, 0) == natural.windows(noise, 2, 0) != natural.windows(noise, 2, 1)
    parts = [{k for _, k, _ in natural.windows(noise, 40, 0, part)} for part in ((0, 0.6), (0.6, 0.7), (0.7, 1))]
    assert not parts[0] & parts[1] and not parts[1] & parts[2]


def test_noise_is_what_is_left_when_the_line_is_out():
    line = [Point(2.0 * k, 0.3 + 0.01 * k, 0.5, 0.2 - 0.002 * k, 0.1) for k in range(20)]
    assert all(abs(v) <= 1e-4 for d in remainder(line) for v in d)
    assert lag1([0.0] * 5) == 0 and lag1([1, -1, 1, -1]) == pytest.approx(-0.75)


def recorded(minutes: float, seed: int = 0, still: bool = True) -> list[Point]:
    rng = random.Random(seed)
    return [Point(2.0 * k, 0.5 + rng.gauss(0, 0.004), 0.7 + rng.gauss(0, 0.002), 0.2 + rng.gauss(0, 0.001), 0.1 + rng.gauss(0, 0.0005))
            if still else Point(2.0 * k, 0.5 + 0.3 * math.sin(k), 0.7, 0.2, 0.1) for k in range(int(minutes * 30))]


def test_noise_is_measured_in_quiet_windows_and_comes_back_from_its_file(tmp_path):
    noise = measure(recorded(10), "made up")
    assert noise.measured["quiet"] >= 20 and noise.measured["std_E"] == pytest.approx(0.004, rel=0.2)
    assert abs(noise.measured["lag1_E"]) < 0.2
    save(noise, tmp_path / "n.json")
    assert load(tmp_path / "n.json") == noise
    with pytest.raises(UserError, match="quiet windows"):
        measure(recorded(10, still=False), "restless")
    (tmp_path / "bad.json").write_text('{"measured": {}, "remainders": [[[1, 2]]]}')
    with pytest.raises(UserError, match="not a file of noise"):
        load(tmp_path / "bad.json")


# -- half recorded ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def telemetry(tmp_path) -> Path:
    """An hour of raw telemetry under a load that comes and goes."""
    path, rng, ctx = tmp_path / "telemetry.jsonl", random.Random(2), 0
    with open(path, "w") as f:
        for k in range(1800):
            busy = 80 if (k // 90) % 3 == 1 else 15
            ctx += int(2000 + 40 * busy + rng.gauss(0, 200))
            row = {"t": 1.7e9 + 2 * k, "mono": 2.0 * k, "cpu": [min(100.0, max(0.0, busy + rng.gauss(0, 8)))] * 2, "mem_total": 1000,
                   "mem_avail": int(600 + 50 * math.sin(k / 200)), "disk_pct": 40.0, "ctx": ctx, "irq": ctx // 2,
                   "disk": {"rb": 0, "wb": 0, "busy": 0}, "net": {"eth0": [0, 0]}, "temps": {}}
            f.write(json.dumps(row) + "\n")
    return path


def test_half_of_a_blend_is_recorded_and_splits_by_time(telemetry):
    task = Lumen(prompt="table", recording=str(telemetry), train=12, dev=2, test=4)
    sources: dict[str, str] = {}
    for split, n in (("train", 12), ("dev", 2), ("test", 4)):
        cases = task.cases(split)
        mine = [c for c in cases if c.id.startswith("recorded")]
        assert len(cases) == 9 * n and len({c.id for c in cases}) == len(cases)
        assert len(mine) == 9 * n // 2
        assert all(sources.setdefault(c.source, split) == split for c in cases)
        assert all(c.input["states"] == 20 and c.input["seconds"] == pytest.approx(38) for c in mine)
        expected = [Generator(c.id).generate(c.reference["shape"]) for c in mine]
        assert [c.reference["tokens"] for c in mine] == expected
    assert telemetry in task.data_files()


def test_a_short_recording_is_refused(telemetry):
    with pytest.raises(UserError, match="blocks of 5 minutes"):
        blend.blocks_of(tuple(recorded(20)))
    with pytest.raises(UserError, match="no such file"):
        Lumen(recording=str(telemetry) + "x").cases("train")


def test_dealing_out_evenly():
    assert blend.evenly(10, {"a": 2, "b": 100, "c": 3}) == {"a": 2, "b": 5, "c": 3}
    assert blend.evenly(10, {"a": 1, "b": 2}) == {"a": 1, "b": 2}
    assert blend.evenly(1, {"a": 5, "b": 5}) == {"a": 1, "b": 0}
