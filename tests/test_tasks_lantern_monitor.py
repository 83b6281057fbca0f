"""Sampling and the watch over a training: what is drawn, what is measured, when it stops, and that a kill changes nothing."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from conftest import tiny_model
from scionwood.errors import UserError
from scionwood.files import read_jsonl
from scionwood.models.settings import Adapter
from scionwood.task import load_task
from scionwood.tasks.lantern import monitor
from scionwood.tasks.lantern.measures.predictive import token_figures
from scionwood.tasks.lantern.measures.text import measure_text
from scionwood.tasks.lantern.monitor import e1, h50, repetition, watch, why_stop
from scionwood.tasks.lantern.sampling import Draw, probabilities, sample
from scionwood.training.examples import build
from scionwood.training.loop import Plan, train
from scionwood.training.monitors import Progress
from scionwood.training.settings import Train, Watch

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7], [900, 20, 31, 4, 77, 8], [1, 2]]


# -- sampling ----------------------------------------------------------------------------------------------------------------


def test_filters_are_their_definitions():
    z = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    assert probabilities(z, Draw())[0].tolist() == pytest.approx([0.5, 0.3, 0.15, 0.05])
    assert probabilities(z, Draw(temperature=0.0))[0].tolist() == [1, 0, 0, 0]
    assert probabilities(z, Draw(temperature=0.5))[0].tolist() == pytest.approx([p**2 / 0.365 for p in (0.5, 0.3, 0.15, 0.05)])
    assert probabilities(z, Draw(top_p=0.79))[0].tolist() == pytest.approx([0.625, 0.375, 0, 0])
    assert probabilities(z, Draw(top_p=0.81))[0].tolist() == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0])
    assert probabilities(z, Draw(min_p=0.2))[0].tolist() == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0])
    assert probabilities(z, Draw(min_p=1.0))[0].tolist() == [1, 0, 0, 0]


def test_greedy_is_the_likeliest_token_and_prompts_do_not_disturb_each_other():
    model = tiny_model(layers=2)
    together = sample(model, PROMPTS, [], Draw(temperature=0.0, tokens=6), ["a", "b", "c"])
    for prompt, got in zip(PROMPTS, together):
        ids = list(prompt)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        assert list(got.ids) == ids[len(prompt):] and not got.ended


def test_each_answer_depends_on_its_own_chance_alone():
    model = tiny_model(layers=2)
    together = sample(model, PROMPTS, [], Draw(tokens=8), ["a", "b", "c"])
    alone = [sample(model, [p], [], Draw(tokens=8), [s])[0] for p, s in zip(PROMPTS, "abc")]
    assert [t.ids for t in together] == [a.ids for a in alone]
    assert sample(model, [PROMPTS[0]], [], Draw(tokens=8), ["z"])[0].ids != alone[0].ids


def test_the_figures_along_the_way_are_those_of_reading_the_answer():
    model = tiny_model(layers=2)
    got = sample(model, PROMPTS, [], Draw(temperature=1.7, min_p=0.01, tokens=7), ["a", "b", "c"])
    for prompt, s in zip(PROMPTS, got):
        h, surprisal = token_figures(model, [*prompt, *s.ids], len(prompt))
        assert s.entropies == pytest.approx(h, abs=1e-3) and s.surprisals == pytest.approx(surprisal, abs=1e-3)  # T = 1, whatever was drawn with


def test_an_end_ends_its_own_answer():
    model = tiny_model(layers=2)
    free = sample(model, PROMPTS, [], Draw(tokens=9), ["a", "b", "c"])
    end = free[1].ids[4]
    got = sample(model, PROMPTS, [end], Draw(tokens=9), ["a", "b", "c"])
    at = free[1].ids.index(end)
    assert got[1].ids == free[1].ids[:at] and got[1].ended and len(got[1].entropies) == at
    assert [g.ids for g in (got[0], got[2])] == [f.ids[: f.ids.index(end)] if end in f.ids else f.ids for f in (free[0], free[2])]
    assert sample(model, [], [], Draw(), []) == []


def test_draws_follow_the_probabilities():
    model = tiny_model(layers=1, vocab=40)
    prompt = [3, 4, 5]
    with torch.no_grad():
        p = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1].double().softmax(-1).numpy()
    drawn = Counter(s.ids[0] for s in sample(model, [prompt] * 3000, [], Draw(tokens=1), [str(i) for i in range(3000)]))
    chi = sum((drawn[t] - 3000 * p[t]) ** 2 / (3000 * p[t]) for t in range(40) if 3000 * p[t] >= 5)
    assert chi < 80  # about 40 expected


# -- figures of a look -------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_thermometer():
    text = " ".join(f"word{i * i % 23}" for i in range(140))
    m = measure_text(text, "en").measures
    assert h50(text) == pytest.approx(m["H50"].value) and repetition(text) == pytest.approx(1 - m["distinct-3"].value)
    assert e1(text) == pytest.approx(measure_text(" ".join(text.split()[:100]), "en").measures["E1"].value)
    assert h50("too short") is None and e1("word " * 99) is None and repetition("two words") is None
    assert repetition("a a a a a") == pytest.approx(2 / 3)


def test_a_look(renderer):
    model = tiny_model(layers=2)
    messages = [[{"role": "user", "content": f"Tell me of thing {i}."}] for i in range(5)]
    look = watch(renderer, messages, Watch(every=1, prompts=3, samples=2, tokens=12))
    figures = look(model, 0, None)
    assert figures == look(model, 5, figures), "the same model and draws give the same figures"
    assert figures["samples"] == 6 and len(look.prompts) == 3 and 0 < figures["tokens"] <= 72
    assert 0 < figures["predictive_entropy"] < math.log(8192) and figures["e1"] is None and figures["h50"] is None


NOW = {"predictive_entropy": 4.0, "repetition": 0.1, "e1": 4.2, "h50": 3.5}


@pytest.mark.parametrize("change, settings, stops", [
    ({}, {}, ""),
    ({"predictive_entropy": 3.19, "repetition": 0.2}, {}, "predictive entropy fell by 20% from step 0 .* from 0.100 to 0.200"),
    ({"predictive_entropy": 1.0}, {}, ""),  # surer of itself without repetition: it learns
    ({"repetition": 0.9}, {}, ""),  # repetition alone
    ({"predictive_entropy": 3.3, "repetition": 0.2}, {}, ""),  # not far enough
    ({"predictive_entropy": 3.3, "repetition": 0.2}, {"fall": 0.1}, "fell by 18%"),
    ({"predictive_entropy": 1.0, "repetition": 0.11}, {}, ""),
    ({"predictive_entropy": 1.0, "repetition": 0.11}, {"rise": 0.005}, "fell by 75%"),
    ({"predictive_entropy": None}, {}, ""),
    ({"predictive_entropy": 1.0, "repetition": 0.9}, {"rule": "none"}, ""),
    ({"e1": 3.99}, {"rule": "published"}, r"E1 of 100 words is 3.990 nats, below 4.0"),
    ({"e1": 4.0}, {"rule": "published"}, ""),
    ({"e1": None}, {"rule": "published"}, ""),
    ({"predictive_entropy": 1.0, "repetition": 0.9}, {"rule": "published"}, ""),
])
def test_the_rules(change, settings, stops):
    import re

    got = why_stop(NOW | change, NOW, Watch(every=100, **settings))
    assert bool(got) == bool(stops) and re.search(stops, got)


# -- in the loop -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def four(renderer):
    return build(renderer, [(f"c{i}", [{"role": "user", "content": f"thing {i}"}], "red blue green"[: 4 + i]) for i in range(4)], 512)


def plan(examples, folder, look, **kw) -> Plan:
    settings = Train(**({"steps": 8, "batch": 4, "lr": 0.01, "checkpoint_seconds": 0, "watch": {"every": 3}} | kw))
    return Plan(examples, Adapter(rank=2), settings, 0, "base", folder / "adapter", folder / "cache", watch=look)


class Looks:
    """Notes when it was asked, and says to stop at a step."""

    def __init__(self, stop=None):
        self.asked, self.stop = [], stop

    def __call__(self, model, step, first):
        assert not model.training
        self.asked.append((step, first and first["value"]))
        return {"value": 10.0 + step} | ({"stop": "enough"} if step == self.stop else {})


def weights(p: Plan):
    from safetensors.torch import load_file

    return load_file(p.folder / "best" / "adapter_model.safetensors")


def equal(a, b) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_looks_come_at_step_0_every_n_steps_and_at_the_end(four, tmp_path):
    looks = Looks()
    p = plan(four, tmp_path, looks)
    facts = train(tiny_model(layers=1), p, CPU, torch.float32)
    assert looks.asked == [(0, None), (3, 10.0), (6, 10.0), (8, 10.0)]
    assert [(r["step"], r["value"]) for r in read_jsonl(p.folder / "log.jsonl") if "value" in r] == [(s, 10.0 + s) for s in (0, 3, 6, 8)]
    assert (facts["steps"], facts["best_step"], facts["stopped_early"]) == (8, 8, False) and "stop" not in facts
    plain = plan(four, tmp_path / "plain", None)
    train(tiny_model(layers=1), plain, CPU, torch.float32)
    assert equal(weights(p), weights(plain)), "looking changes nothing"


def test_a_stop_keeps_the_last_model_that_was_well(four, tmp_path):
    p = plan(four, tmp_path / "a", Looks(stop=6))
    facts = train(tiny_model(layers=1), p, CPU, torch.float32)
    assert (facts["steps"], facts["best_step"], facts["stopped_early"], facts["stop"]) == (6, 3, True, "enough")
    at_three = plan(four, tmp_path / "b", Looks(), watch={})

    class Stop(Exception):
        pass

    from scionwood.training import loop

    kept = {}

    def on_step(step):
        if step == 3:
            raise Stop

    at_three.dev = lambda model: kept.setdefault("x", 1.0)  # saves after the first epoch
    at_three.train = at_three.train.model_copy(update={"dev_every": 3.0})
    with pytest.raises(Stop):
        loop.train(tiny_model(layers=1), at_three, CPU, torch.float32, on_step=on_step)
    assert equal(weights(p), weights(at_three))
    looks = Looks()
    p.watch = looks
    again = train(tiny_model(layers=1), p, CPU, torch.float32)  # the checkpoint lies there as after a kill: it must not go on
    assert again["stop"] == "enough" and looks.asked == []


def test_a_kill_changes_nothing(four, tmp_path):
    class Killed(BaseException):
        pass

    for at, every in ((1, 0), (5, 0), (4, 1e9)):
        undisturbed, killed = (plan(four, tmp_path / f"{at}-{every}-{n}", Looks(stop=6), checkpoint_seconds=every) for n in "ab")
        facts = train(tiny_model(layers=1), undisturbed, CPU, torch.float32)

        def kill(step):
            if step == at:
                raise Killed

        with pytest.raises(Killed):
            train(tiny_model(layers=1), killed, CPU, torch.float32, on_step=kill)
        again = train(tiny_model(layers=1), killed, CPU, torch.float32)
        assert {k: facts[k] for k in ("steps", "best_step", "stop")} == {k: again[k] for k in ("steps", "best_step", "stop")}
        logs = [[(r["step"], r.get("loss"), r.get("value")) for r in read_jsonl(p.folder / "log.jsonl")] for p in (undisturbed, killed)]
        assert logs[0] == logs[1] and equal(weights(undisturbed), weights(killed))


def test_a_real_watch_in_a_real_training(four, renderer, tmp_path, capsys):
    settings = Watch(every=4, prompts=2, tokens=10)
    p = plan(four, tmp_path, watch(renderer, [[{"role": "user", "content": "Say it."}]] * 2, settings), watch=settings.model_dump())
    train(tiny_model(layers=1), p, CPU, torch.float32, [Progress("x", 8, print)])
    seen = [r for r in read_jsonl(p.folder / "log.jsonl") if "predictive_entropy" in r]
    assert [r["step"] for r in seen] == [0, 4, 8] and len({r["predictive_entropy"] for r in seen}) == 3
    assert "predictive entropy" in capsys.readouterr().out


def test_a_task_of_choices_has_nothing_to_watch(renderer):
    with pytest.raises(UserError, match="nothing to watch while it trains; remove train.watch.every"):
        load_task("cerebellum").watch(renderer, Watch(every=5), None)


def test_batches_of_answers_change_nothing(renderer, monkeypatch):
    look = watch(renderer, [[{"role": "user", "content": f"thing {i}"}] for i in range(4)], Watch(every=1, prompts=4, tokens=9))
    model = tiny_model(layers=1)
    whole = look(model, 0, None)
    monkeypatch.setattr(monitor, "BATCH", 3)
    parts = look(model, 0, None)
    assert whole["predictive_entropy"] == pytest.approx(parts["predictive_entropy"], rel=1e-4)
    assert np.isclose(whole["repetition"] or 0, parts["repetition"] or 0)
