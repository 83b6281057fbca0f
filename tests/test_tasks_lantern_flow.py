"""A whole lantern run on a tiny base: the adapter beside its four controls, verified, resumed, told, drawn."""

import json
import math
import re
import shutil

import pytest
from typer.testing import CliRunner

from scionwood import files
from scionwood.cli.app import app
from scionwood.errors import UserError
from scionwood.evidence.verify import verify
from scionwood.flow import flow_for, open_flow
from scionwood.recipe import Recipe
from scionwood.run import Run
from scionwood.tasks.lantern import flow as flow_module
from scionwood.tasks.lantern import answering, matching, writing
from scionwood.tasks.lantern.flow import MATCHED, PLAIN, PROMPTED
from scionwood.tasks.lantern.lengths import count
from scionwood.tasks.lantern.live import write_page
from test_tasks_lantern_task import tasks_file
from tiny_flow import make_base

RUNNER = CliRunner()
PROMPTS = ["Why do bells toll?", "How is rope made?", "What does dusk smell of?", "My friend lost her job.", "A barn and a chord?",
           "Is rain loud?"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lantern")
    make_base(folder / "base")
    tasks_file(folder, *PROMPTS, kind="fact")
    return folder


def recipe(home, **changes) -> Recipe:
    value = {"name": "tiny-lantern", "task": "lantern", "base": str(home / "base"), "adapter": {"rank": 2, "last_layers": 1},
             "task_options": {"answers": 2, "words": 50, "languages": ["en"], "tasks": str(home / "tasks.jsonl")},
             "train": {"steps": 4, "batch": 2, "lr": 0.02, "dtype": "fp32", "device": "cpu", "seeds": [0, 1], "checkpoint_seconds": 0,
                       "watch": {"every": 2, "prompts": 2, "tokens": 60}},
             "evidence": {"decoder": "json", "temperature": 1.0, "shuffled_control": False}}
    for key, table in changes.items():
        value[key] = value[key] | table
    return Recipe.model_validate(value)


def flow(home, folder, lines=None, **changes):
    return flow_for(recipe(home, **changes), Run(folder, echo=lines.append if lines is not None else lambda line: None))


@pytest.fixture(scope="module", autouse=True)
def few_temperatures():
    """A random base's entropy needs no dozen temperatures to see that the nearest is taken."""
    with pytest.MonkeyPatch.context() as m:
        m.setattr(matching, "MOST", 2)
        m.setattr(flow_module, "MATCH_ANSWERS", 1)
        m.setattr(answering, "TOKENS_PER_WORD", 2)
        yield


@pytest.fixture(scope="module")
def done(home, few_temperatures):
    flow(home, home / "run").all()
    return home / "run"


SYSTEMS = ["base", PROMPTED, "adapter-0", "adapter-1", f"{PLAIN}-0", f"{PLAIN}-1", f"{MATCHED}-0", f"{MATCHED}-1"]


def test_one_command_measures_the_adapter_beside_its_controls(done):
    figures = files.read_json(done / "figures.json")
    assert sorted(p.stem for p in (done / "predictions").iterdir()) == sorted(SYSTEMS)
    assert {n: (s["kind"], len(s["runs"])) for n, s in figures["systems"].items()} == {
        "base": ("base", 1), "adapter": ("adapter", 2), PROMPTED: ("rival", 1), PLAIN: ("rival", 2), MATCHED: ("rival", 2)}
    assert figures["primary"] == "utility_k" and {c["against"] for c in figures["comparisons"]} == {"base", PROMPTED, PLAIN, MATCHED}
    assert len(figures["pairs"]) == 10 and all(p["sources"] == 6 for p in figures["pairs"])
    mine = next(c["primary"] for c in figures["comparisons"] if c["against"] == PLAIN)
    pair = next(p for p in figures["pairs"] if {p["system"], p["against"]} == {"adapter", PLAIN})
    assert pair["difference"] == pytest.approx(mine["difference"]) and pair["p"] == mine["p"], "the same test, adjusted over more"


def rows(done, name):
    return files.read_jsonl(done / "predictions" / f"{name}.jsonl")


def test_every_answer_has_its_length_and_its_figures(done):
    for name in SYSTEMS:
        for row in rows(done, name):
            a = row["answer"]
            assert row["status"] == "ok" and {len(v) for v in a.values() if isinstance(v, list)} == {2} and a["texts"][0] == row["text"]
            assert all(count(t, "en") == 50 or n == 100 for t, n in zip(a["texts"], a["tokens"])), "full, or as many tokens as may be"
    assert len({rows(done, n)[0]["answer"]["ordinary"] for n in SYSTEMS}) == 1, "one yardstick: the untouched base"
    found = {s: files.read_json(done / "data" / f"temperature-{s}.json")["temperature"] for s in (0, 1)}
    for name, temperature in (("base", 1), (f"{MATCHED}-0", found[0]), (f"{MATCHED}-1", found[1])):
        a = rows(done, name)[0]["answer"]
        assert (a["entropy"] == a["drawn"]) == (temperature == 1)


def test_the_base_reads_its_own_answers_as_it_drew_them(done):
    for row in rows(done, "base"):
        assert all(abs(s - h) < 3 for s, h in zip(row["answer"]["surprisal"], row["answer"]["entropy"]))
    adapter, base = rows(done, "adapter-0"), rows(done, "base")
    assert [r["answer"]["surprisal"] for r in adapter] != [r["answer"]["surprisal"] for r in base]


def test_the_temperature_matches_the_adapters_entropy(done):
    for seed in (0, 1):
        found = files.read_json(done / "data" / f"temperature-{seed}.json")
        assert abs(found["entropy"] - found["wanted"]) == min(abs(h - found["wanted"]) for _, h in found["tried"])
        assert found["prompts"] >= 5 and found["answers"] == 1 and found["tried"][0][0] == 1


def test_the_plain_control_has_the_twins_and_as_many_steps(done):
    again = open_flow(done)
    mine, plain = again.training_rows("adapter-0"), again.training_rows(f"{PLAIN}-0")
    assert [(c, m) for c, m, _ in mine] == [(c, m) for c, m, _ in plain] and not {t for *_, t in mine} & {t for *_, t in plain}
    facts = [again.run.facts(f"train-{n}") for n in ("adapter-0", f"{PLAIN}-0")]
    assert facts[0]["steps"] == facts[1]["steps"] == 4 and facts[0]["dev"] is None
    for name in ("adapter-0", f"{PLAIN}-1"):
        looks = [r for r in files.read_jsonl(done / "adapter" / name / "log.jsonl") if "predictive_entropy" in r]
        assert [r["step"] for r in looks] == [0, 2, 4]
        assert all(r["tokens"] == 120 and r["ended"] == 0 for r in looks), "no look is about the length"


def test_the_run_verifies_and_a_changed_answer_does_not(done, tmp_path):
    def differences(folder):
        again = open_flow(folder, lambda line: None)
        return verify(folder, again.task, again.recompute, again.render)

    assert differences(done) == []
    copy = shutil.copytree(done, tmp_path / "copy")
    full = [(n, r, k) for n in SYSTEMS for r, row in enumerate(rows(done, n)) for k, t in enumerate(row["answer"]["texts"])
            if count(t, "en") == 50]
    name, row, k = full[0]
    path = copy / "predictions" / f"{name}.jsonl"
    changed = files.read_jsonl(path)
    changed[row]["answer"]["surprisal"][k] += 1.0
    files.write_jsonl(path, changed)
    found = "\n".join(differences(copy))
    assert ".figures.utility_k.value: " in found and ".figures.surprisal.value: " in found and "pairs[" in found


def test_a_second_run_skips_all_and_a_killed_one_goes_on_to_the_same(done, home, tmp_path, monkeypatch):
    lines = []
    before = files.file_hash(done / "stages")
    flow(home, done, lines).all()
    assert all("skipped" in line for line in lines if line.split(":")[0] in ("base", "figures", "card", f"{MATCHED}-0", f"train-{PLAIN}-1"))
    assert files.file_hash(done / "stages") == before

    class Killed(BaseException):
        pass

    copy, predict = shutil.copytree(done, tmp_path / "copy"), writing.Writer.predict
    for gone in (PROMPTED, f"{MATCHED}-1"):
        (copy / "predictions" / f"{gone}.jsonl").unlink()

    def die(self, cases):
        if self.name == MATCHED:
            raise Killed
        return predict(self, cases)

    monkeypatch.setattr(writing.Writer, "predict", die)
    with pytest.raises(Killed):
        flow(home, copy).all()
    monkeypatch.setattr(writing.Writer, "predict", predict)
    lines.clear()
    flow(home, copy, lines).all()
    assert f"{PROMPTED}: skipped (nothing that it depends on has changed)" in lines and f"{MATCHED}-1: going on where it stopped" in lines

    def told(folder):
        return {n: [r["answer"] for r in rows(folder, n)] for n in SYSTEMS}

    assert told(copy) == told(done)


def test_card_and_report_tell_the_controls_and_draw_the_curves(done):
    card, report = (done / "README.md").read_text(), (done / "report.html").read_text()
    for title in ("What was asked", "Every metric of every system", "The four controls", "Every pair", "Diversity while it trained",
                  "In their own words"):
        assert f"## {title}" in card and f">{title}</h2>" in report
    assert report.count('aria-label="Diversity over the steps.') == 1 and "No control was run" not in card
    found = files.read_json(done / "data" / "temperature-0.json")
    assert f"| 0 | {found['wanted']:.3f} | {found['temperature']:.3f} | {found['entropy']:.3f} |" in card
    assert all(re.search(rf"\| `{n}` \|", card) for n in ("base", PROMPTED, PLAIN, MATCHED, "adapter"))
    assert "Quality is the base's own likelihood" in card


def test_curves_are_drawn_while_it_trains(done, tmp_path):
    run = tmp_path / "run"
    (run / "adapter" / "adapter-0").mkdir(parents=True)
    with pytest.raises(UserError, match="no training has begun"):
        write_page(run)
    log = (done / "adapter" / "adapter-0" / "log.jsonl").read_text().splitlines(keepends=True)
    (run / "adapter" / "adapter-0" / "log.jsonl").write_text("".join(log[:3]) + log[3][:7])  # a line is being written
    page = write_page(run, 30).read_text()
    assert "Diversity over the steps" in page and "Training loss over the steps" in page and 'http-equiv="refresh" content="30"' in page
    (run / "adapter" / "adapter-0" / "log.jsonl").write_text(log[0])
    got = RUNNER.invoke(app, ["lantern", "curves", str(run)])
    assert got.exit_code == 0 and got.output.strip().endswith("training.html")
    again = (run / "training.html").read_text()
    assert "Training loss" not in again and "refresh" not in again, "no step yet: only the look at step 0"


@pytest.mark.parametrize("changes, error", [
    ({"evidence": {"temperature": 0.0}}, "evidence.temperature = 0 would draw one answer k times"),
    ({"evidence": {"shuffled_control": True}}, "set evidence.shuffled_control = false"),
    ({"teacher": {"kind": "recorded", "path": "x"}}, r"remove \[teacher\]")])
def test_what_makes_no_sense_is_refused_before_anything_is_done(changes, error, home, tmp_path):
    value = recipe(home).model_dump(exclude_none=True)
    for key, table in changes.items():
        value[key] = value[key] | table
    with pytest.raises(UserError, match=error):
        flow_for(Recipe.model_validate(value), Run(tmp_path / "run"))


def test_prompts_that_are_too_long_are_named(home, tmp_path):
    path = tasks_file(tmp_path, "word " * 900)
    with pytest.raises(UserError, match=r"case t0: a prompt of \d+ tokens and an answer of up to 100 are more than the 1024"):
        flow(home, tmp_path / "run", task_options={"tasks": path}).all()


def test_what_the_report_says_of_a_stop(done, monkeypatch):
    from scionwood.tasks.lantern import telling

    context = open_flow(done).context()
    assert "stopped no training" in telling.watched(context).blocks[-1]
    context["training"]["adapter-1"]["stop"] = "predictive entropy fell by 30%"
    assert "`adapter-1` (predictive entropy fell by 30%)" in telling.watched(context).blocks[-1]
    context["recipe"]["train"]["watch"]["every"] = None
    assert telling.watched(context).blocks == []
    assert json.dumps(context) and math.isfinite(context["matched"][0]["temperature"])
