"""The recipe's exports in the flow: written, measured as systems, paired with the adapter, skipped, gone on with, verified."""

import pytest
from export_runs import scion
from tiny_flow import make_base, make_flow, recipe

from scionwood import files
from scionwood.errors import UserError
from scionwood.evidence.verify import verify
from scionwood.export import proof
from scionwood.export.settings import Export
from scionwood.recipe import Recipe
from scionwood.settings import check

pytest.importorskip("xllamacpp")
TO = ("gguf:f16", "gguf:q8_0")


def with_exports(base, to=TO, **train):
    return recipe(base, **train).model_copy(update={"export": Export(to=to)})


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def done(base, tmp_path_factory):
    """A finished run with two exports of the better of two seeds."""
    lines: list[str] = []
    flow = make_flow(with_exports(base, seeds=[0, 3], epochs=1), tmp_path_factory.mktemp("run"), lines=lines)
    flow.all()
    return flow, lines


def found(flow):
    return [*verify(flow.run.folder, flow.task, flow.recompute, flow.render), *proof.changed_files(flow)]


def test_each_file_is_a_system_with_its_verdict(done):
    flow, _ = done
    figures = files.read_json(flow.run.path("figures.json"))
    seed = flow.run.facts("prove-gguf-f16")["seed"]
    assert [(e["system"], e["seed"], e["same"]["n"]) for e in figures["exports"]] == [(n, seed, 24) for n in TO]
    assert {n: figures["systems"][n]["kind"] for n in TO} == dict.fromkeys(TO, "export")
    for name in TO:
        rows = files.read_jsonl(flow.run.path("predictions", f"{proof.stem(name)}.jsonl"))
        assert len(rows) == 24 and all(r["status"] == "ok" and r["confidence"] > 0.5 for r in rows)
    fact = flow.run.facts("prove-gguf-q8_0")
    assert fact["sha256"] == files.file_hash(flow.run.path(fact["file"])) and fact["bytes"] == flow.run.path(fact["file"]).stat().st_size
    card = flow.run.path("README.md").read_text("utf-8")
    assert "## What the export cost" in card and "`gguf:q8_0`" in card
    assert found(flow) == []


def test_f16_answers_as_the_adapter_does(done):
    flow, _ = done
    seed = flow.run.facts("prove-gguf-f16")["seed"]
    ours, theirs = (files.read_jsonl(flow.run.path("predictions", f"{n}.jsonl")) for n in ("gguf-f16", f"adapter-{seed}"))
    assert [(r["case"], r["answer"]) for r in ours] == [(r["case"], r["answer"]) for r in theirs]
    assert [r["confidence"] for r in ours] == pytest.approx([r["confidence"] for r in theirs], abs=0.02)


def test_a_second_run_skips_and_a_lost_file_is_made_again(done):
    flow, lines = done
    again = make_flow(flow.recipe, flow.run.folder, lines=(said := []))
    proof.export_and_prove(again)
    assert all("skipped" in line for line in said if line.startswith(("export-", "prove-")))
    before = flow.run.path("predictions", "gguf-q8_0.jsonl").read_bytes()
    flow.run.path("predictions", "gguf-q8_0.jsonl").unlink()
    said.clear()
    proof.export_and_prove(again)
    assert [line.split(":")[0] for line in said if "done" in line and "skipped" not in line] == ["prove-gguf-q8_0", "prove-gguf-q8_0"]
    after = files.read_jsonl(flow.run.path("predictions", "gguf-q8_0.jsonl"))
    flow.run.path("predictions", "gguf-q8_0.jsonl").write_bytes(before)
    assert [r["answer"] for r in after] == [r["answer"] for r in files.read_jsonl(flow.run.path("predictions", "gguf-q8_0.jsonl"))]


def test_verify_sees_an_exported_file_that_changed(done):
    flow, _ = done
    path = flow.run.path(flow.run.facts("prove-gguf-q8_0")["file"])
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        (line,) = found(flow)
        assert path.name in line and "measured" in line
        path.unlink()
        assert "absent found; write it again: scion export " in found(flow)[0]
    finally:
        path.write_bytes(whole)


def test_the_command_tells_a_changed_file_from_a_false_card_and_how_to_mend_it(done, monkeypatch, capsys):
    flow, _ = done
    path = flow.run.path(flow.run.facts("prove-gguf-q8_0")["file"])
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        code, out, _ = scion(monkeypatch, capsys, "verify", flow.run.folder)
        line, card, changed = out.splitlines()
        assert code == 1 and line.startswith(f"export/{path.name}: sha256: ") and "does not follow" not in out
        assert card.endswith("every figure, the card and the report follow from the predictions")
        assert changed.endswith("1 exported file changed: what lies there is not what was measured")
        mend = line.partition("write it again: scion ")[2].split()
        assert mend == ["export", str(flow.run.folder), "--to", "gguf:q8_0"]
        assert scion(monkeypatch, capsys, *mend)[0] == 0 and path.read_bytes() == whole
        assert scion(monkeypatch, capsys, "verify", flow.run.folder)[0] == 0
    finally:
        path.write_bytes(whole)


def test_verify_sees_a_prediction_of_an_export_that_was_changed(done):
    flow, _ = done
    path = flow.run.path("predictions", "gguf-f16.jsonl")
    rows = files.read_jsonl(path)
    before = path.read_bytes()
    try:
        files.write_jsonl(path, [{**rows[0], "answer": "red" if rows[0]["answer"] == "blue" else "blue"}, *rows[1:]])
        assert any("exports[0].same" in line for line in found(flow))
    finally:
        path.write_bytes(before)


def test_a_recipe_without_exports_has_none(done, base, tmp_path):
    flow, _ = done
    plain = make_flow(recipe(base, seeds=[0, 3], epochs=1), flow.run.folder, lines=[])
    assert proof.exported_systems(plain) == [] and proof.facts(plain) == {}
    proof.export_and_prove(make_flow(recipe(base), tmp_path, lines=[]))
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("to, message", [
    (["gguf:q8"], "gguf:q8: no such format"), (["f16"], "did you mean 'gguf:f16'"), ("gguf:f16", "tuple")])
def test_a_wrong_format_is_one_line(to, message):
    with pytest.raises(UserError, match=message) as e:
        check({"name": "a", "task": "tiny", "export": {"to": to}}, Recipe, "r.toml")
    assert "\n" not in str(e.value) and str(e.value).startswith("r.toml: export.to")


def test_only_gguf_is_measured_and_each_once(base):
    r = with_exports(base, ("merged", "gguf:f16", "gguf:f16", "lora-gguf"))
    assert proof.proved(r) == ["gguf:f16"] and r.export.to == ("merged", "gguf:f16", "lora-gguf")


def test_what_cannot_be_measured_is_refused_before_training(base, tmp_path, monkeypatch):
    r = with_exports(base)
    drawn = r.model_copy(update={"evidence": r.evidence.model_copy(update={"temperature": 0.7})})
    with pytest.raises(UserError, match="evidence.temperature = 0.7"):
        make_flow(drawn, tmp_path, lines=[]).all()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs gguf and xllamacpp; install with: pip install .scionwood.export.."):
        make_flow(r, tmp_path, lines=[]).all()
    assert not (tmp_path / "recipe.lock.toml").exists()
    proof.check_possible(recipe(base))


def test_a_file_whose_check_failed_stops_the_run(done, monkeypatch):
    flow, _ = done
    from scionwood.export import exporter

    real = exporter.export

    def broken(*args):
        from dataclasses import replace

        return [replace(e, check={**e.check, "failed": "log-probabilities are apart"}) for e in real(*args)]

    monkeypatch.setattr(exporter, "export", broken)
    with pytest.raises(UserError, match="its check failed .log-probabilities are apart."):
        proof.export_and_prove(make_flow(flow.recipe, flow.run.folder, lines=[]))
