"""Duels from contestants to answers: parsing, cutting, decontamination, and every kind of contestant on real files and servers."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from duel_fakes import OPEN, TASKS, prose, recorded, small_duel, write
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scionwood.cli.app import app
from scionwood.errors import UserError
from scionwood.files import read_json, read_jsonl
from scionwood.tasks.lantern.duel import decontaminate, results
from scionwood.tasks.lantern.duel.asking import ask, to_ask
from scionwood.tasks.lantern.duel.contestants import Sampling, from_row, parse
from scionwood.tasks.lantern.duel.cutting import cut, has_words, spans
from scionwood.tasks.lantern.duel.questions import Question, by_kind, normal, occurs, read_questions
from scionwood.tasks.lantern.duel.reading import read_duel
from scionwood.tasks.lantern.duel.run import NEAR, Plan, go_on, hold

# -- questions ---------------------------------------------------------------------------------------------------------


def test_the_tasks_that_ship_are_read():
    questions = read_questions()
    assert len(read_questions(lang="en")) == 72 and len(questions) > 72
    assert set(by_kind(questions)) == {"insight", "empathy", "synthesis", "phenomenology", "fact", "analysis"}


@pytest.mark.parametrize(
    "rows, told",
    [
        ([{"id": "a", "kind": "fact", "prompt": "x"}], "needs 'accept'"),
        ([{"id": "a", "kind": "insight", "prompt": "x", "accept": ["y"]}], "has no right answer"),
        ([{"id": "a", "kind": "riddle", "prompt": "x"}], "kind"),
        ([{"id": "a/b", "kind": "insight", "prompt": "x"}], "id"),
        ([{"id": "a", "kind": "insight", "prompt": "x", "promt": 1}], "unknown key 'promt'; did you mean 'prompt'"),
        ([{"id": "a", "kind": "insight", "prompt": "x"}, {"id": "a", "kind": "insight", "prompt": "y"}], "has the id of task 'a'"),
        ([{"id": "a", "kind": "insight", "prompt": "X  y"}, {"id": "b", "kind": "insight", "prompt": "x y"}], "has the prompt of task 'a'"),
        ([], "holds no task"),
    ],
)
def test_bad_tasks_are_named(tmp_path, rows, told):
    with pytest.raises(UserError, match=told):
        read_questions(write(tmp_path / "t.jsonl", rows))


def test_a_language_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"language 'xx' \(there: en\)"):
        read_questions(write(tmp_path / "t.jsonl", TASKS), "xx")


@pytest.mark.parametrize(
    "phrase, text, there",
    [
        ("7", "It makes 7.", True),
        ("7", "17", False),
        ("7", "8.7", False),
        ("7", "7.5", False),
        ("7", "7, or so", True),
        ("seven", "Seventy", False),
        ("Paris", "**Paris**", True),
        ("six and a half", "six  and a\nhalf", True),
        ("isn't", "it isn’t so", True),
        ("17", "共17辆", True),
        ("十七", "共十七辆", True),
        ("[1, 2]", "prints [1] and [1, 2]", True),
        ("6:45", "at 6:45 h", True),
        ("well-known", "well‑known", True),
        ("", "anything", False),
    ],
)
def test_a_right_answer_is_found_as_whole_words(phrase, text, there):
    assert occurs(phrase, normal(text)) is there


def test_what_is_rejected_outweighs_what_is_accepted():
    q = Question(id="q", kind="fact", prompt="?", accept=["Paris"], reject=["not Paris"])
    assert q.right("Paris, of course") and not q.right("It is not Paris") and not q.right("Lyon")


# -- cutting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, words, measured, shown",
    [
        ("One two. Three four. Five six.", 5, "One two. Three four. Five", "One two. Three four."),
        ("One two. Three four. Five six.", 4, "One two. Three four", "One two. Three four."),
        ("One two three four", 3, "One two three", "One two three …"),
        ("It costs 3.5 euros today", 3, "It costs 3", "It costs 3 …"),
        ("Ask Dr. Who then go. Now", 5, "Ask Dr. Who then go", "Ask Dr. Who then go."),
        ("Ask Dr. Who then go now. Yes", 5, "Ask Dr. Who then go", "Ask Dr. Who then go …"),
        ("She said “go now.” He went on", 4, "She said “go now", "She said “go now.”"),
        ("a list\nof things\nfollows here", 5, "a list\nof things\nfollows", "a list\nof things"),
    ],
)
def test_answers_end_at_a_sentence_and_never_beyond(text, words, measured, shown):
    found = cut(text, words)
    assert (found.measured, found.shown, found.short) == (measured, shown, False)


def test_short_answers_are_whole_and_say_so():
    assert cut(" One two. ", 2).short is False and cut("One two.", 3) == cut(" One two.\n", 3)
    found = cut("One two.", 3)
    assert found.short and found.words == 2 and found.measured == found.shown == "One two."
    assert cut("", 3).short


def test_chinese_words_are_a_segmenters():
    pytest.importorskip("rjieba")
    text = "我们今天去公园散步。明天再去图书馆看书。"
    found = cut(text, 6)
    assert found.shown == "我们今天去公园散步。" and not found.short and text.startswith(found.measured)


@given(st.text(max_size=300), st.integers(1, 30))
def test_a_cut_is_a_beginning_and_has_its_length(text, words):
    found = cut(text, words)
    whole = text.strip()
    assert whole.startswith(found.measured) and found.words == len(list(spans(whole))) and found.short == (found.words < words)
    if not found.short:
        assert len(list(spans(found.measured))) == words or "\u4e00" <= max(whole, default="")  # a segmenter may read a cut text otherwise
    assert whole.startswith(found.shown.removesuffix(" …"))
    assert has_words(whole, words) == (found.words > words)


# -- contestants -------------------------------------------------------------------------------------------------------


def test_contestants_say_what_they_are(tmp_path):
    run = tmp_path / "my,run"
    run.mkdir()
    (run / "recipe.lock.toml").write_text("")
    texts = [
        "embedded",
        "cool=embedded,temperature=0.5",
        "embedded,top_p=0.9,adapter=a/b",
        str(run),
        f"{run}:base",
        "a/small-q4_0.gguf,tokenizer=x",
        "big=http://127.0.0.1:1/v1,model=org/Big 7B,key_env=KEY,temperature=0.2",
        "http://h/v1,model=org/Big 7B",
        "x/answers.jsonl",
        "x/answers.jsonl",
    ]
    found = parse(texts, Sampling(temperature=0.8, min_p=0.05))
    assert [c.name for c in found] == [
        "embedded",
        "cool",
        "embedded-b",
        "my-run",
        "my-run-base",
        "small-q4_0",
        "big",
        "org-Big-7B",
        "answers",
        "answers-2",
    ]
    assert [c.kind for c in found] == ["model", "model", "model", "run", "run", "gguf", "endpoint", "endpoint", "recorded", "recorded"]
    assert (
        [c.sampling.temperature for c in found[:3]] == [0.8, 0.5, 0.8]
        and found[2].sampling.top_p == 0.9
        and found[1].sampling.min_p == 0.05
    )
    assert (
        found[4].part == "base"
        and found[3].what == str(run)
        and found[6].options.key_env == "KEY"
        and found[6].options.model == "org/Big 7B"
    )
    assert [from_row(json.loads(json.dumps(c.row()))) for c in found] == found


@pytest.mark.parametrize(
    "text, told",
    [
        ("embedded,tempature=1", "unknown option 'tempature' for a contestant of kind model; did you mean 'temperature'"),
        ("embedded,temperature=hot", "temperature"),
        ("embedded,top_p=0", "top_p"),
        ("http://h/v1", "needs the name of its model"),
        ("a.jsonl,temperature=1", "its answers are there already"),
        ("http://h/v1,model=a,adapter=b", "unknown option 'adapter'"),
    ],
)
def test_bad_contestants_are_named(text, told):
    with pytest.raises(UserError, match=told):
        parse([text], Sampling())


def test_two_of_one_name_are_refused_where_they_were_named():
    with pytest.raises(UserError, match="two contestants are called 'a'"):
        parse(["a=embedded", "a=embedded,temperature=0.1"], Sampling())


# -- decontamination ---------------------------------------------------------------------------------------------------


def test_the_tasks_that_ship_repeat_no_training_prompt():
    found = decontaminate.search(read_questions(), decontaminate.shipped(), NEAR)
    assert found["found"] == [] and found["texts"] > 100 and found["highest"]["similarity"] < NEAR


def test_repeated_and_quoted_prompts_are_named_and_stop_it_unless_allowed(tmp_path):
    trained = [
        decontaminate.Trained("examples 1", "What happens in the moment before understanding arrives?", True),
        decontaminate.Trained("examples 2", "Long ago somebody asked: Who owns a shadow at noon? Nobody knew, and it grew late.", False),
        decontaminate.Trained("examples 3", "Something else altogether", True),
    ]
    questions = [
        Question(id="near", kind="insight", prompt="Describe what happens in the moment before understanding arrives."),
        Question(id="inside", kind="insight", prompt="Who owns a shadow at noon?"),
        Question(id="clean", kind="insight", prompt="Why do geese argue?"),
    ]
    found = decontaminate.search(questions, trained, NEAR)
    assert [(f["task"], f["source"], f["how"]) for f in found["found"]] == [
        ("inside", "examples 2", "text"),
        ("near", "examples 1", "prompt"),
    ]
    with pytest.raises(
        UserError, match="task 'inside' stands in examples 2.*task 'near' nearly repeats a prompt of examples 1.*--allow-leaks"
    ):
        decontaminate.refuse(found, False)
    decontaminate.refuse(found, True)


def test_a_shipped_training_prompt_stops_a_duel_and_allowing_it_is_told(tmp_path):
    prompt = next(t.text for t in decontaminate.shipped() if t.prompt)
    tasks = write(tmp_path / "t.jsonl", [*TASKS, {"id": "leak", "kind": "insight", "prompt": prompt}])
    names = [str(recorded(tmp_path / f"{n}.jsonl", 20, True)) for n in "ab"]
    with pytest.raises(UserError, match="leak: task 'leak' nearly repeats a prompt"):
        hold(names, tmp_path / "d", Plan(tasks=tasks, words=60), print)
    assert not (tmp_path / "d" / "duel.json").exists()
    hold(names, tmp_path / "d", Plan(tasks=tasks, words=60, allow_leaks=True), print)
    assert "**Contaminated:**" in (tmp_path / "d" / "README.md").read_text() and "`leak`" in (tmp_path / "d" / "README.md").read_text()


# -- a whole duel ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return small_duel(tmp_path_factory.mktemp("duel"))


def test_a_duel_of_recorded_answers_is_measured_and_told(done):
    folder, value, lines = done
    verdicts = {c["metric"]: c["verdict"] for c in value["comparisons"]}
    assert [verdicts[m] for m in ("H50", "HD-D", "overlap")] == ["better"] * 3
    assert value["figures"]["rich-qwen-model"]["correct"]["value"] == 1 and value["figures"]["poor-llama-model"]["correct"]["value"] == 0
    assert (
        value["answers"]["rich-qwen-model"] | {"asked": 16, "ok": 16, "short": 0, "measurable": 14} == value["answers"]["rich-qwen-model"]
    )
    page = (folder / "report.html").read_text()
    assert "<svg" in page and "could have shown" in page and "http" not in page.replace("http://www.w3.org", "").replace("https://", "http")
    assert results.verify(folder) == [] and any("no near-duplicate" in line for line in lines)


def test_the_same_files_give_the_same_bytes(done):
    folder, value, _ = done
    before = {p.name: p.read_bytes() for p in folder.glob("*.*")}
    go_on(folder, lambda line: None)
    assert {p.name: p.read_bytes() for p in folder.glob("*.*")} == before


@pytest.mark.parametrize(
    "name, change, told",
    [
        (
            "answers/rich-qwen-model.jsonl",
            lambda t: t.replace("Paris", "Lyon"),
            ["answers/rich-qwen-model.jsonl: sha256", "duel.json: figures.rich-qwen-model.correct.value"],
        ),
        (
            "duel.json",
            lambda t: t.replace('"verdict": "better"', '"verdict": "worse"', 1),
            ["verdict: 'worse' recorded, 'better' recomputed", "README.md"],
        ),
        ("README.md", lambda t: t.replace("better", "best", 1), ["README.md: line"]),
        ("report.html", lambda t: t + " ", ["report.html: line"]),
    ],
)
def test_verify_finds_what_was_changed(tmp_path, name, change, told):
    folder, _, _ = small_duel(tmp_path)
    path = folder / name
    path.write_text(change(path.read_text()))
    found = "\n".join(results.verify(folder))
    assert all(t in found for t in told), found
    done = CliRunner().invoke(app, ["lantern", "duel", "--verify", str(folder)])
    assert done.exit_code == 1 and told[0] in done.output


def test_failures_count_and_short_answers_are_shown(tmp_path):
    tasks = write(tmp_path / "t.jsonl", TASKS)
    a = recorded(tmp_path / "a.jsonl", 60, True)
    b = recorded(tmp_path / "b.jsonl", 60, True, f_0="timeout", o_1="refused")
    rows = read_jsonl(b)
    rows[0]["text"] = "Too short."
    write(b, rows[:-2] + rows[-1:])  # the analysis task has one sample only: the other was never recorded
    value = hold([str(a), str(b)], tmp_path / "d", Plan(tasks=tasks, samples=2, words=60), lambda line: None)
    mine = value["answers"]["b"]
    assert (mine["ok"], mine["timeout"], mine["failed"], mine["short"], mine["measurable"]) == (11, 2, 3, 1, 11)
    assert value["figures"]["b"]["correct"]["value"] == 0.25  # 0 of 2 and 1 of 2
    assert value["figures"]["b"]["distinct_k"]["n"] == 7 and value["figures"]["b"]["overlap"]["n"] == 4
    assert value["pairs"] == {"planned": 16, "settled": 5} and "no recorded answer" in (tmp_path / "d/answers/b.jsonl").read_text()


def test_a_contestant_that_changed_is_not_mixed_with_what_it_was(tmp_path):
    folder, value, _ = small_duel(tmp_path)
    other = tmp_path / "rich-qwen-model.jsonl"
    write(other, [r | {"text": prose(r["task"])} for r in read_jsonl(other)])
    with pytest.raises(UserError, match="is not what it was when the duel was locked"):
        go_on(folder, lambda line: None)
    hold(
        [str(tmp_path / "poor-llama-model.jsonl"), str(other)],
        folder,
        Plan(tasks=tmp_path / "t.jsonl", samples=2, words=60),
        lambda line: None,
    )
    assert read_duel(folder).answers["rich-qwen-model"]["f-0"][0].text == prose("f-0")


def test_the_command_tells_what_is_missing(tmp_path):
    def run(*arguments):
        return CliRunner().invoke(app, ["lantern", *arguments])

    assert "--out FOLDER" in str(run("duel", "embedded").exception)
    assert "two contestants" in str(run("duel", "embedded", "--out", str(tmp_path / "x")).exception)
    assert "not the folder of a duel" in str(run("duel", "--out", str(tmp_path)).exception)
    assert "not the folder of a duel" in str(run("rate", str(tmp_path)).exception)
    assert "stands alone" in str(run("duel", "embedded", "--verify", str(tmp_path)).exception)
    assert "a judge is an endpoint" in str(
        run("duel", "embedded", "embedded", "--out", str(tmp_path / "y"), "--judge", "embedded").exception
    )


# -- local models and GGUF files ---------------------------------------------------------------------------------------

ASKED = to_ask([Question(id=f"q{i}", kind="insight", prompt=p) for i, p in enumerate(OPEN[:3])], 2, 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    from tiny_flow import make_base

    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def exported(base, tmp_path_factory):
    pytest.importorskip("xllamacpp")
    import torch
    from serving_export import write_export

    from scionwood.models.loading import load_model, load_tokenizer

    return write_export(
        tmp_path_factory.mktemp("exported") / "run",
        load_model(str(base), "cpu", torch.float32),
        load_tokenizer(str(base)),
        kinds=("f16", "q8_0"),
    )


def answers_of(text, folder, asked=ASKED, **sampling):
    """All rows of one contestant, asked for real, by case."""
    from scionwood.tasks.lantern.duel.asking import open_backend

    (contestant,) = parse([text], Sampling(**({"tokens": 24} | sampling)))
    backend = open_backend(contestant, lambda line: None)
    try:
        ask(contestant, backend, asked, folder / "a.jsonl")
    finally:
        backend.close()
    return {r["case"]: r for r in read_jsonl(folder / "a.jsonl")}


def test_a_local_model_draws_each_answer_from_a_chance_of_its_own(base, tmp_path):
    whole = answers_of(str(base), tmp_path)
    assert len({r["text"] for r in whole.values()}) == 6 and all(
        r["completion_tokens"] == 24 and not r["ended"] for r in whole.values() if not r["ended"]
    )
    again = answers_of(str(base), tmp_path / "again", ASKED[3:])
    assert all(again[case]["text"] == whole[case]["text"] for case in again)
    greedy = answers_of(f"{base},temperature=0", tmp_path / "greedy")
    assert greedy["q0/0"]["text"] == greedy["q0/1"]["text"]


def test_answers_that_are_kept_going_come_to_their_length(base, exported, tmp_path):
    brief = to_ask([Question(id="f", kind="fact", prompt="?", accept=["x"])], 1, 0)
    for i, what in enumerate((base, exported / "export/tiny-f16.gguf")):
        found = answers_of(str(what), tmp_path / str(i), [*ASKED, *brief], tokens=200, keep_going=20)
        assert all(has_words(found[a.case]["text"], 20) and not found[a.case]["ended"] for a in ASKED)
        assert "<|im_end|>" not in "".join(r["text"] for r in found.values()) and "f/0" in found


def test_a_gguf_file_answers_as_the_model_it_was_made_from(base, exported, tmp_path):
    ours = answers_of(f"{base},temperature=0", tmp_path / "a")
    theirs = answers_of(f"{exported}/export/tiny-f16.gguf,temperature=0", tmp_path / "b")
    assert {c: r["text"] for c, r in ours.items()} == {c: r["text"] for c, r in theirs.items()}
    drawn = answers_of(f"{exported}/export/tiny-q8_0.gguf", tmp_path / "c")
    assert len({r["text"] for r in drawn.values()}) == 6


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.15},
        {"temperature": 0.3, "min_p": 0.1},
        {"temperature": 0.2, "top_p": 0.6},
        {"temperature": 0.3, "top_p": 0.8, "min_p": 0.05},
    ],
)
def test_llama_cpp_draws_from_the_distribution_that_we_draw_from(base, exported, sampling):
    import torch

    from scionwood.models.llamacpp import LlamaCpp
    from scionwood.models.loading import load_model
    from scionwood.tasks.lantern.duel.in_llamacpp import draw
    from scionwood.tasks.lantern.sampling import Draw, probabilities

    prompt = [11, 500, 23, 7, 900, 41]
    with torch.no_grad():
        logits = load_model(str(base), "cpu", torch.float32)(torch.tensor([prompt])).logits[:, -1].float()
    wanted = probabilities(logits, Draw(**sampling))[0]
    near = {
        "top_p": min(1.0, 1.02 * sampling.get("top_p", 1.0)),
        "min_p": 0.95 * sampling.get("min_p", 0.0),
    }  # f16 weights: ties at the edge
    allowed = probabilities(logits, Draw(**sampling | near))[0]
    s, count, n = Sampling(**sampling, tokens=1), {}, 600
    with LlamaCpp(exported / "export/tiny-f16.gguf", context=64, threads=1) as engine:
        for seed in range(n):
            ids, _ = draw(engine, prompt, s, seed, [])
            count[ids[0]] = count.get(ids[0], 0) + 1
    if s.top_p < 1 or s.min_p:
        assert all(float(allowed[t]) > 0 for t in count) and int((wanted > 0).sum()) < 2000  # nothing that the filters take away
    top = wanted.topk(8).indices.tolist()
    assert float(wanted[top[0]]) > 0.05  # sharp enough to tell frequencies apart
    for t in top:
        p = float(wanted[t])
        assert abs(count.get(t, 0) / n - p) < 4.5 * (p * (1 - p) / n) ** 0.5 + 0.003


def test_what_cannot_be_loaded_is_named(tmp_path, base, exported):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    for text, told in [
        (str(tmp_path / "x.gguf"), "no tokenizer.json beside"),
        (str(tmp_path / "no.gguf"), "cannot be read"),
        ("./nowhere", "no such folder"),
        (f"{base},adapter={tmp_path}", "holds no adapter_model.safetensors"),
        (str(exported / "export"), "name one of its .gguf files"),
        (f"{base},tokens=5000", "lower --tokens"),
    ]:
        with pytest.raises(UserError, match=told):
            answers_of(text, tmp_path)


@contextlib.contextmanager
def served(home, folder, **settings):
    """The address of a sidecar with a run's export."""
    pytest.importorskip("fastapi")
    from serving_live import live, until

    from scionwood.serving.artifact import read_artifact
    from scionwood.serving.model import GgufModel
    from scionwood.serving.settings import Serving
    from scionwood.task import load_task

    task, values = load_task("cerebellum"), {"threads": 1, "context": 1000, **settings}
    with live(folder, task, open_model=lambda: GgufModel(read_artifact(home), task, Serving(**values), 3), **values) as server:
        until(server.sidecar.is_ready, 60)
        yield server.url


KILLED = """
import os, signal, sys
from pathlib import Path
from scionwood.tasks.lantern.duel import asking, in_torch
from scionwood.tasks.lantern.duel.contestants import Sampling
from scionwood.tasks.lantern.duel.run import Plan, hold
in_torch.BATCH = 2
append, count = asking.Journal.append, [0]
def killing(self, row):
    append(self, row)
    count[0] += 1
    if count[0] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
asking.Journal.append = killing
base, tasks, out = sys.argv[1:]
plan = Plan(tasks=Path(tasks), samples=2, words=15, sampling=Sampling(tokens=24))
hold([f"a={base}", f"b={base},temperature=0.5"], Path(out), plan, print)
"""


def test_killed_in_the_middle_it_goes_on_to_the_same_answers(base, tmp_path, monkeypatch):
    """SIGKILL after the fifth answer of a real process: the journal keeps them, the next call asks for the rest alone."""
    from scionwood.tasks.lantern.duel import in_torch

    tasks, out, whole = write(tmp_path / "t.jsonl", TASKS[:3]), tmp_path / "d", tmp_path / "whole"
    child = subprocess.run([sys.executable, "-c", KILLED, str(base), str(tasks), str(out)], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    before = (out / "answers/a.jsonl").read_bytes()
    assert len(read_jsonl(out / "answers/a.jsonl")) == 5 and not (out / "duel.json").exists()
    go_on(out, lambda line: None)
    assert (out / "answers/a.jsonl").read_bytes().startswith(before) and len(read_jsonl(out / "answers/a.jsonl")) == 6
    monkeypatch.setattr(in_torch, "BATCH", 6)
    hold(
        [f"a={base}", f"b={base},temperature=0.5"],
        whole,
        Plan(tasks=tasks, samples=2, words=15, sampling=Sampling(tokens=24)),
        lambda line: None,
    )
    for name in "ab":
        texts = [{r["case"]: r["text"] for r in read_jsonl(d / f"answers/{name}.jsonl")} for d in (out, whole)]
        assert texts[0] == texts[1]
    assert read_json(out / "duel.json")["figures"] == read_json(whole / "duel.json")["figures"]


def test_a_run_beside_its_own_export_tells_what_quantisation_cost(tmp_path, monkeypatch, capsys):
    pytest.importorskip("xllamacpp")
    from export_runs import make_run, scion

    home = make_run(tmp_path)
    assert scion(monkeypatch, capsys, "export", home, "--to", "gguf:q8_0")[0] == 0
    (gguf,) = (home / "export").glob("*.gguf")
    tasks = write(tmp_path / "t.jsonl", TASKS)
    with served(home, tmp_path, max_tokens=200) as url:  # a sidecar is known by the hash of its file
        value = hold(
            [str(home), f"q8={gguf}", f"far={url}/v1,model=any", f"{home}:base"],
            tmp_path / "d",
            Plan(tasks=tasks, samples=2, words=40, sampling=Sampling(tokens=160, keep_going=40)),
            lambda line: None,
        )
    assert (
        value["edges"] == [{"run": "tiny", "gguf": name} for name in ("q8", "far")] and value["leaks"]["texts"] > 350
    )  # the run's own training texts are searched, too
    card = (tmp_path / "d/README.md").read_text()
    assert "## What the export cost" in card
    assert all(f"`{name}` minus `tiny`, which it was exported from" in card for name in ("q8", "far"))
    assert results.verify(tmp_path / "d") == []
    assert value["answers"]["tiny"]["short"] == 0


# -- endpoints ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def server(answer, models=None):
    """An OpenAI-compatible server on loopback. ``answer``: body -> (status, text, finish_reason); its bodies are kept."""
    bodies, headers = [], []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_): ...

        def send(self, status, value):
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            self.send(200 if models else 404, {"data": models or []})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            bodies.append(body)
            headers.append(dict(self.headers))
            status, text, reason = answer(body)
            self.send(status, {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}], "usage": {}})

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}/v1", bodies, headers
    finally:
        httpd.shutdown()
        httpd.server_close()


def listening(url):
    """Wait until somebody answers at an address, whatever is said."""
    import httpx

    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url + "/healthz")
        time.sleep(0.05)
    raise AssertionError(f"nobody answers at {url}")


def test_an_endpoint_is_asked_with_its_sampling_and_its_key_stays_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("DUEL_KEY", "sk-very-secret")
    with server(
        lambda body: (200, f"answer {body['seed'] % 97}" if "seed" in body else "one", "length" if body.get("seed", 0) % 2 else "stop")
    ) as (url, bodies, headers):
        found = answers_of(f"{url},model=big,key_env=DUEL_KEY,temperature=0.7,top_p=0.9,min_p=0.05", tmp_path, tokens=33)
        assert len(bodies) == 6 and {(b["model"], b["temperature"], b["top_p"], b["min_p"], b["max_tokens"]) for b in bodies} == {
            ("big", 0.7, 0.9, 0.05, 33)
        }
        assert headers[0]["Authorization"] == "Bearer sk-very-secret" and "sk-very-secret" not in (tmp_path / "a.jsonl").read_text()
        for a in ASKED:  # each with the seed of its own that every kind of contestant gets
            row = found[a.case]
            assert (row["text"], row["status"], row["ended"]) == (f"answer {a.number % 97}", "ok", a.number % 2 == 0)
        assert len({b["seed"] for b in bodies}) == 6 and len({b["seed"] % 2 for b in bodies}) == 2
        answers_of(f"{url},model=big,key_env=DUEL_KEY,temperature=0.7,top_p=0.9,min_p=0.05", tmp_path, tokens=33)
        assert len(bodies) == 6  # nothing is asked twice
        answers_of(f"{url},model=big,send_seed=no", tmp_path / "plain")
        assert "seed" not in bodies[-1] and "top_p" not in bodies[-1] and len(bodies) == 12


def test_time_outs_and_refusals_stand_and_lost_connections_are_tried_again(tmp_path):
    def answer(body):
        if OPEN[0] in body["messages"][0]["content"]:
            time.sleep(1.5)
        return (
            (200, "", "content_filter")
            if OPEN[1] in body["messages"][0]["content"]
            else (400, "", "")
            if OPEN[2] in body["messages"][0]["content"]
            else (200, "x", "stop")
        )

    with server(answer) as (url, bodies, _):
        found = answers_of(f"{url},model=m,timeout_s=0.5", tmp_path)
        assert {c: r["status"] for c, r in found.items()} == {
            f"q{i}/{k}": s for i, s in enumerate(("timeout", "refused", "error")) for k in (0, 1)
        }
        before = len(bodies)
        answers_of(f"{url},model=m,timeout_s=0.5", tmp_path)
        assert len(bodies) == before + 2  # the two errors alone


@pytest.fixture
def sidecar(exported, tmp_path):
    pytest.importorskip("fastapi")
    from test_serving_server import Process

    process = Process(exported, tmp_path / "state", "--max-tokens", "120")
    listening(process.url)  # it tells its address before it answers there; while it loads, the contestant itself waits
    yield process.url
    process.stop()


def test_a_sidecar_draws_as_the_file_itself_is_drawn_from(sidecar, exported, tmp_path):
    for i, sampling in enumerate(("temperature=0", "temperature=0.7,top_p=0.9", "min_p=0.01")):
        found = answers_of(f"{sidecar}/v1,model=tiny,{sampling}", tmp_path / f"served{i}")
        inside = answers_of(f"{exported}/export/tiny-f16.gguf,{sampling}", tmp_path / f"inside{i}")
        assert {c: r["status"] for c, r in found.items()} == {a.case: "ok" for a in ASKED}
        # a text that is cut within a character ends before it there, and with its mark here
        texts = [{c: r["text"].rstrip("\ufffd").strip() for c, r in rows.items()} for rows in (found, inside)]
        assert texts[0] == texts[1] and len(set(texts[0].values())) == (3 if i == 0 else 6)


def test_a_sidecar_keeps_going_and_says_what_it_cannot(sidecar, tmp_path):
    brief = to_ask([Question(id="f", kind="fact", prompt="?", accept=["x"])], 1, 0)
    found = answers_of(f"{sidecar}/v1,model=tiny", tmp_path, [*ASKED, *brief], tokens=120, keep_going=20)
    assert all(has_words(found[a.case]["text"], 20) and not found[a.case]["ended"] for a in ASKED) and found["f/0"]["status"] == "ok"
    with pytest.raises(UserError, match="a sidecar takes temperatures from 0 to 2, not 2.5; lower --temperature"):
        answers_of(f"{sidecar}/v1,model=tiny,temperature=2.5", tmp_path)
    with pytest.raises(UserError, match="cut an answer at 120 tokens, where up to 200 were asked for; start it with --max-tokens 200"):
        answers_of(f"{sidecar}/v1,model=tiny", tmp_path, tokens=200, keep_going=20)


def test_an_endpoint_cannot_be_kept_going():
    with pytest.raises(UserError, match="cannot be kept from ending its answer"):
        answers_of("http://127.0.0.1:9/v1,model=m", None, keep_going=20)
