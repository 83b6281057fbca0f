"""scion run nla, whole: every stage on a random base, skipping, killing, verifying, and what the rows of each control hold."""

import re
import shutil

import numpy as np
import pytest

from scionwood import files
from scionwood.errors import UserError
from scionwood.evidence.verify import verify
from scionwood.tasks.nla import fve
from scionwood.tasks.nla.further import PAIR
from killing import run_killed_after
from nla_runs import make_flow, recipe, write_texts
from tiny_flow import make_base


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("data") / "texts")


@pytest.fixture(scope="module")
def done(base, data, tmp_path_factory):
    """One undisturbed run that the tests look at; tests that change something copy it."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    make_flow(recipe(base, data), folder).all()
    return folder


def rows(folder, name):
    return {r["case"]: r for r in files.read_jsonl(folder / f"{name}.jsonl")}


def result(folder) -> dict:
    """All that a run proves, without times."""
    def timeless(path):
        return [{k: v for k, v in r.items() if k != "latency_ms"} for r in files.read_jsonl(path)]

    return {p.relative_to(folder).as_posix(): timeless(p) for kind in ("predictions", "beside") for p in sorted((folder / kind).iterdir())}


def test_a_run_has_all_its_parts(done):
    for part in ("figures.json", "README.md", "report.html", "vectors/train.parquet", "nla_meta.yaml", "adapter/av-0/best/nla_meta.yaml",
                 "adapter/ar-0/best/value_head.safetensors", "predictions/round-trip-0.jsonl", "beside/ar-at-0.5.jsonl",
                 "beside/ridge-without-web.jsonl"):
        assert (done / part).exists(), part
    assert not (done / ".cache").exists() and not list(done.rglob("checkpoint.safetensors"))


def test_figures_card_and_report_follow_from_the_rows(done, base, data):
    flow = make_flow(recipe(base, data), done)
    assert verify(done, flow.task, flow.recompute, flow.render) == []


def test_changed_errors_are_found(done, base, data, tmp_path):
    folder, names = shutil.copytree(done, tmp_path / "copy"), ("predictions/round-trip-0.jsonl", "beside/ar-at-0.5.jsonl")
    for name in names:
        changed = files.read_jsonl(folder / name)
        changed[0]["answer"]["error"] /= 2
        files.write_jsonl(folder / name, changed)
    flow = make_flow(recipe(base, data), folder)
    found = "\n".join(verify(folder, flow.task, flow.recompute, flow.render))
    assert all(f"{name}: sha256" in found for name in names)
    assert "systems.round-trip.runs[0].figures.round_trip_fve.value" in found and "nla.curve[0].fve.value" in found


def test_a_second_run_skips_every_stage(done, base, data, tmp_path):
    folder, lines = shutil.copytree(done, tmp_path / "copy"), []
    make_flow(recipe(base, data), folder, lines).all()
    stages = [line for line in lines if ": " in line]
    assert stages and all("skipped" in line for line in stages), lines


def test_another_length_of_words_leaves_trainings_alone(done, base, data, tmp_path):
    folder, lines = shutil.copytree(done, tmp_path / "copy"), []
    make_flow(recipe(base, data, options={"tokens": 9}), folder, lines).all()
    said = "\n".join(lines)
    assert "train-av-0: skipped" in said and "train-ar-0: skipped" in said and "rivals: skipped" in said
    assert "prove-0: done again" in said and "figures: done again" in said


def test_a_killed_run_goes_on_to_the_same_rows(done, base, data, tmp_path):
    folder = tmp_path / "killed"
    assert not run_killed_after(34, make_flow(recipe(base, data), folder).all)  # in the middle of a training
    make_flow(recipe(base, data), folder).all()
    assert result(folder) == result(done)


# -- what the rows hold -----------------------------------------------------------------------------------------------------


def test_errors_and_spreads_are_those_of_the_vectors(done, base, data):
    flow = make_flow(recipe(base, data), done)
    train, test, cases = flow.values("train"), flow.values("test"), flow.task.cases("test")
    unit = np.sqrt(train.shape[1]) * train / np.linalg.norm(train, axis=1, keepdims=True)
    mean = unit.mean(0)
    found = rows(done, "predictions/mean")
    for case, vector in zip(cases, np.sqrt(test.shape[1]) * test / np.linalg.norm(test, axis=1, keepdims=True)):
        answer = found[case.id]["answer"]
        assert answer["error"] == pytest.approx(((vector - mean) ** 2).mean(), abs=1e-5)
        assert answer["error"] == answer["spread"]
        assert answer["train_spread"] == pytest.approx(1 - (mean**2).mean(), abs=1e-5)  # D = 1 - |mu|^2 / d
    inner = rows(done, "predictions/category-language-mean")
    assert all(r["answer"]["error"] == pytest.approx(r["answer"]["category_spread"], abs=1e-5) for r in inner.values())


def test_the_round_trip_is_what_the_reconstructor_makes_of_the_words(done, base, data):
    from scionwood.tasks.nla import training

    flow = make_flow(recipe(base, data), done)
    reader = training.load_reconstructor(flow, done / "adapter" / "ar-0")
    ours = list(rows(done, f"predictions/{PAIR}-0").values())
    errors = fve.errors(reader.reconstruct([r["answer"]["said"] for r in ours]), flow.values("test"))
    assert [r["answer"]["error"] for r in ours] == pytest.approx(errors.tolist(), abs=1e-4)
    assert {"loss", "loss_any", "loss_within", "complete"} <= ours[0]["answer"].keys()


def test_controls_hold_other_cases_words(done, base, data):
    cases = {c.id: c for c in make_flow(recipe(base, data), done).task.cases("test")}
    own = {case: r["answer"]["said"] for case, r in rows(done, f"predictions/{PAIR}-0").items()}
    for name in ("shuffled-in-category", "permuted"):
        given = {case: r["answer"]["said"] for case, r in rows(done, f"predictions/{name}").items()}
        assert given.keys() == cases.keys() and set(given.values()) <= set(own.values())
        assert sum(given[case] == own[case] for case in own) < 2  # a random base may say the same twice
    assert len({r["answer"]["said"] for r in rows(done, "predictions/mean-vector").values()}) == 1


def test_a_category_left_out_is_measured_alone(done, base, data):
    cases = {c.id: c for c in make_flow(recipe(base, data), done).task.cases("test")}
    assert {cases[i].reference["category"] for i in rows(done, "beside/ridge-without-warm")} == {"warm"}


def test_the_card_tells_of_this_task(done):
    card = (done / "README.md").read_text("utf-8")
    for told in ("Two LoRA adapters", "## What it said", "## The published figure", "0.940", "## By category", "## A category left out",
                 "cosine of the training mean"):
        assert told in card, told
    assert "Mistakes" not in card and "Slices" not in card and "one of a few labels" not in card
    assert "<svg" in (done / "report.html").read_text("utf-8")


# -- options ----------------------------------------------------------------------------------------------------------------


def test_two_seeds_a_trained_control_reinforcement_and_every_category_left_out_for_the_reconstructor(base, data, tmp_path):
    r = recipe(base, data, evidence={"shuffled_control": True, "control_share": 0.5}, seeds=[0, 1],
               options={"curve": [], "leave_out": "ar", "ar_reads": "both", "scale": "sweep", "av": {"steps": 4},
                        "ar_hears": 2, "lead": True, "reinforce": {"on": True, "steps": 1, "batch": 2, "samples": 2}})
    make_flow(r, tmp_path / "run").all()
    figures = files.read_json(tmp_path / "run" / "figures.json")
    assert len(figures["systems"][PAIR]["runs"]) == 2 and figures["nla"]["curve"] == []
    assert [c["against"] for c in figures["controls"] if c["system"] == "shuffled-vectors"] == ["mean"]
    assert all(e["ar"]["without"]["n"] == e["ar"]["with"]["n"] > 0 for e in figures["nla"]["left_out"])
    assert {"beside/ar-on-training-description.jsonl", "beside/ar-on-training-summary.jsonl"} <= figures["files"].keys()
    assert files.read_json(tmp_path / "run" / "stages" / "extract.json")["facts"]["scale_reason"].startswith("injection scale")
    assert figures["systems"]["supervised-only"]["kind"] == "probe" and (tmp_path / "run" / "adapter" / "rl-ar-1" / "best").is_dir()
    said = rows(tmp_path / "run", "predictions/ar-on-gold")
    assert all(r["answer"]["said"].startswith(("English, ", "Chinese, ")) for r in said.values())
    plain = rows(tmp_path / "run", "predictions/ar-on-gold-without-lead")
    assert not any(r["answer"]["said"].startswith("English, ") for r in plain.values())
    assert {"own_loss_gap", "category_named"} <= figures["metrics"].keys()
    assert "by reinforcement" in (tmp_path / "run" / "README.md").read_text("utf-8")
    assert verify(tmp_path / "run", (flow := make_flow(r, tmp_path / "run")).task, flow.recompute, flow.render) == []


@pytest.mark.parametrize(("changes", "said"), [
    ({"options": {"layer": 7}}, "blocks 0 to 1"),
    ({"options": {"av": {"epoch": 3}}}, "did you mean 'epochs'"),
    ({"options": {"ar": {"lr": -1}}}, "[task_options] ar"),
    ({"options": {"scales": 3}}, "did you mean 'scale'"),
    ({"options": {"curve": [0.5, 1.0]}}, "between 0 and 1"),
    ({"options": {"test_author": "z"}}, "author 'z'"),
    ({"options": {"data": "/nowhere"}}, "/nowhere"),
])
def test_what_a_recipe_gets_wrong_is_one_line(base, data, tmp_path, changes, said):
    with pytest.raises(UserError, match=re.escape(said)) as e:
        make_flow(recipe(base, data, **changes), tmp_path / "run").all()
    assert "\n" not in str(e.value)


def test_what_other_tasks_have_is_refused(base, data, tmp_path):
    wrong = recipe(base, data).model_copy(update={"export": recipe(base, data).export.model_copy(update={"to": ("gguf:f16",)})})
    with pytest.raises(UserError, match="two adapters"):
        make_flow(wrong, tmp_path / "run").all()
