import pytest
from evidence_fakes import Digits, answers

from scionwood.errors import UserError
from scionwood.evidence.figures import compute, read_system
from scionwood.evidence.verify import differences, verify
from scionwood.files import file_hash, read_json, write_json, write_jsonl, write_text

TASK = Digits()
CASES = TASK.cases("test")


def render(figures):
    value = figures["systems"]["base"]["runs"][0]["figures"]["accuracy"]["value"]
    return {"README.md": f"# digits\n\naccuracy {value}\n"}


@pytest.fixture
def run(tmp_path):
    write_jsonl(tmp_path / "predictions/base.jsonl", answers(CASES, lambda i: i % 2))
    figures = recompute(tmp_path)()
    write_json(tmp_path / "figures.json", figures)
    for name, text in render(figures).items():
        write_text(tmp_path / name, text)
    return tmp_path


def recompute(run):
    return lambda: compute(TASK, CASES, [read_system(run, "predictions/base.jsonl", "base", "base")])


def check(run):
    return verify(run, TASK, recompute(run), render)


def test_a_true_run_has_no_differences(run):
    assert check(run) == []


def test_a_figure_that_was_edited(run):
    figures = read_json(run / "figures.json")
    figures["systems"]["base"]["runs"][0]["figures"]["accuracy"]["value"] = .9
    write_json(run / "figures.json", figures)
    assert check(run) == [
        "figures.json: systems.base.runs[0].figures.accuracy.value: 0.9 recorded, 0.5 recomputed",
        "README.md: line 3: 'accuracy 0.5' in the file, 'accuracy 0.9' rendered"]


def test_a_card_that_was_edited(run):
    write_text(run / "README.md", "# digits\n\naccuracy 0.95\n")
    assert check(run) == ["README.md: line 3: 'accuracy 0.95' in the file, 'accuracy 0.5' rendered"]
    write_text(run / "README.md", "# digits\n\naccuracy 0.5")
    assert check(run) == ["README.md: line 4: absent in the file, '' rendered"]
    (run / "README.md").unlink()
    assert check(run) == ["README.md: absent in the run, rendered from figures.json"]


def test_predictions_that_were_edited(run):
    old = file_hash(run / "predictions/base.jsonl")
    write_jsonl(run / "predictions/base.jsonl", answers(CASES, lambda i: i % 2 or i == 0))
    lines = check(run)
    assert lines[0] == f"predictions/base.jsonl: sha256: {old} recorded, {file_hash(run / 'predictions/base.jsonl')} found"
    assert "figures.json: systems.base.runs[0].figures.accuracy.value: 0.5 recorded, 0.5125 recomputed" in lines


def test_predictions_that_are_gone_or_left_out(run):
    write_jsonl(run / "predictions/adapter-2.jsonl", [])
    line, = check(run)
    assert line.startswith("predictions/adapter-2.jsonl: sha256: absent recorded, ")
    (run / "predictions/adapter-2.jsonl").unlink()
    (run / "predictions/base.jsonl").unlink()
    first, second = check(run)
    assert first.startswith("predictions/base.jsonl: sha256: ") and first.endswith("absent found")
    assert second.startswith("figures.json: cannot be recomputed: ") and "no such file" in second


def test_another_task_and_a_missing_file(run):
    other = Digits()
    other.name = "letters"
    assert verify(run, other, recompute(run), render) == ["figures.json: task: 'digits' recorded, 'letters' given"]
    (run / "figures.json").unlink()
    with pytest.raises(UserError, match="no such file"):
        check(run)


def test_differences_name_the_place_and_keep_the_tolerance():
    old = {"a": [1.0, {"b": True}], "gone": 1, "n": None}
    assert list(differences(old, {"a": [1.0 + 1e-10, {"b": True}], "gone": 1, "n": None})) == []
    new = {"a": [1.00001, {"b": 1}, 7], "n": 0, "new": "x"}
    assert [where for where, _, _ in differences(old, new)] == ["a[0]", "a[1].b", "a[2]", "gone", "n", "new"]
