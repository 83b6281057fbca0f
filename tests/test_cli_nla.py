"""scion nla on the command line: each command on real files, and what it says where something is amiss."""

import json

import numpy as np
import pytest
import torch
from nla_tools_fakes import LAYER, WIDTH, write_base, write_run
from typer.testing import CliRunner

from scionwood.cli.app import app
from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.tasks.nla.vectors import read_vectors


@pytest.fixture(scope="module")
def here(tmp_path_factory, renderer):
    folder = tmp_path_factory.mktemp("nla")
    write_run(folder / "run", write_base(folder / "base"), renderer, seeds=(3,))
    rows = [{"id": f"t{i}", "text": f"the cat number {i} sleeps", "label": "cats"} for i in range(8)]
    rows += [{"id": f"s{i}", "text": f"share number {i} fell", "label": "shares"} for i in range(8)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def scion(here, *words):
    """What a command prints, with paths relative to the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        said = CliRunner().invoke(app, ["nla", *map(str, words)], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    return said.stdout


def refused(here, *words):
    with pytest.raises(UserError) as told:
        scion(here, *words)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_from_texts_to_vectors_to_words_to_vectors(here):
    scion(here, "extract", "texts.jsonl", "--base", "base", "--layer", LAYER, "--out", "v.parquet")
    vectors = read_vectors(here / "v.parquet")
    assert vectors.values.shape == (16, WIDTH) and vectors.ids[0] == "t0" and vectors.layer == LAYER
    lines = scion(here, "verbalize", "v.parquet", "--run", "run", "--tokens", 6, "--json").splitlines()
    assert [json.loads(line)["id"] for line in lines] == vectors.ids
    plain = scion(here, "verbalize", "v.parquet", "--run", "run", "--tokens", 6).splitlines()
    assert plain[0].startswith(f"t0: {json.loads(lines[0])['said'] or '(nothing)'}")
    (here / "said.jsonl").write_text("\n".join(line for line in lines if json.loads(line)["said"].strip()))
    words = ["reconstruct", "said.jsonl", "--key", "said", "--run", "run"]
    told = json.loads(scion(here, *words, "--out", "b.npy", "--against", "v.parquet", "--json"))
    count = len(read_jsonl(here / "said.jsonl"))
    assert told["n"] == count == len(np.load(here / "b.npy")) and told["against"] == "training vectors"
    assert told["fve"] == pytest.approx(1 - np.mean([r["error"] for r in told["rows"]]) / told["D"], abs=1e-4)
    for name in ("b.parquet", "b.safetensors"):
        scion(here, *words, "--out", name)
        np.testing.assert_allclose(read_vectors(here / name).values, np.load(here / "b.npy"), atol=1e-6)
    assert "FVE" in scion(here, *words, "--against", "v.parquet")
    sampled = scion(here, "verbalize", "b.npy", "--run", "run", "--tokens", 4, "--samples", 2, "--temperature", 1).splitlines()
    assert len(sampled) >= 2 * count


def test_read_prints_a_table_json_and_a_page(here):
    table = scion(here, "read", "A cat on a mat", "--run", "run", "--tokens", 4, "--html", "page.html")
    assert "·cat" in table and "D = " in table and "<!doctype html>" in (here / "page.html").read_text()[:20]
    (here / "t.txt").write_text("A cat on a mat")
    row = json.loads(scion(here, "read", "@t.txt", "--run", "run", "--tokens", 4, "--json", "--plain"))
    assert row["layer"] == LAYER and [t["role"] for t in row["tokens"]] == ["text"] * len(row["tokens"])


def test_axis_and_steer(here):
    said = scion(here, "axis", "texts.jsonl", "--positive", "cats", "--run", "run", "--randoms", 1, "--tokens", 4, "--out", "axis")
    assert "cats (8 texts) against shares" in said and "random 1 -" in said and (here / "axis/axis.svg").exists()
    torch.save(torch.randn(WIDTH), here / "d.pt")
    row = json.loads(scion(here, "axis", "--direction", "d.pt", "--layer", LAYER, "--run", "run", "--tokens", 4, "--json"))
    assert len(row["spoken"]) == 8 and row["axis"] is None
    only = scion(here, "axis", "texts.jsonl", "--positive", "cats", "--base", "base")
    assert "in words" not in only and "AUC" in only
    edit = ["--original", "a cat", "--replace", "cat=dog"]
    said = scion(here, "steer", "Hello", "--run", "run", *edit, "--reply", 4, "--strength", 2, "--at", -1)
    assert "steered, strength 2" in said and "added at layer 2 to tokens: -1" in said and "random, strength 2" in said


def test_pack_writes_folders_that_open(here):
    scion(here, "pack", "packed", "--run", "run", "--whole")
    lines = scion(here, "verbalize", "v.parquet", "--av", "packed/av", "--tokens", 6)
    assert lines == scion(here, "verbalize", "v.parquet", "--run", "run", "--tokens", 6)


@pytest.mark.parametrize("words, why", [
    (["verbalize", "no.parquet", "--run", "run"], "no.parquet: no such file"),
    (["verbalize", "v.parquet"], "needs a verbalizer; name a run with --run"),
    (["verbalize", "v.parquet", "--run", "run", "--samples", 2], "--temperature"),
    (["reconstruct", "texts.jsonl", "--run", "run"], "--out"),
    (["reconstruct", "texts.jsonl", "--run", "run", "--out", "x.csv"], "known: .parquet"),
    (["read", " ", "--run", "run"], "empty text"), (["read", "@nowhere", "--run", "run"], "nowhere: cannot be read"),
    (["read", "x", "--run", "base"], "no run of task nla"),
    (["axis", "--run", "run"], "two files of texts"), (["axis", "texts.jsonl", "--positive", "cat", "--run", "run"], "did you mean 'cats'"),
    (["steer", "x", "--run", "run", "--where", "repl"], "did you mean 'reply'"),
    (["steer", "x", "--run", "run", "--original", "a"], "--replace OLD=NEW"),
    (["extract", "texts.jsonl", "--base", "base", "--positions", "some"], "expected last, mean, or a number"),
    (["extract", "texts.jsonl", "--base", "base", "--layer", 9, "--out", "w.parquet"], "blocks 0 to 3"),
    (["describe", "texts.jsonl"], "--url"), (["describe", "texts.jsonl", "--url", "nope", "--model", "m"], "base_url"),
    (["describe", "texts.jsonl", "--recorded", "texts.jsonl", "--model", "m"], "leave out"),
])
def test_what_is_amiss_is_one_line(here, words, why):
    assert why in refused(here, *words)
