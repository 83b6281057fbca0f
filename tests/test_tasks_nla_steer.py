"""Steering: the edit lands where it should, at the length it should, and generation by hand is that of transformers."""

import numpy as np
import pytest
import torch
from nla_tools_fakes import FAMILIES, LAYER, tiny, write_base, write_run

from scionwood.errors import UserError
from scionwood.tasks.nla import fve, steer
from scionwood.tasks.nla.checkpoints import open_pair
from scionwood.tasks.nla.generating import generate, positions_of
from scionwood.tasks.nla.states import block_states, changed, prompt_ids

PROMPT = [5, 900, 77, 3001, 12, 45]


@pytest.fixture(scope="module")
def pair(tmp_path_factory, renderer):
    folder = tmp_path_factory.mktemp("nla")
    return open_pair(write_run(folder / "run", write_base(folder / "base"), renderer, seeds=(3,)))


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_generation_is_that_of_transformers(family):
    model = tiny(family)
    whole = model.generate(torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False, eos_token_id=[8188], pad_token_id=0)[0].tolist()
    wanted = whole[len(PROMPT):]
    assert list(generate(model, PROMPT, {8188}, 12)[0].ids) == wanted[: wanted.index(8188) if 8188 in wanted else None]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_changes_what_one_full_pass_with_it_would_say(family):
    """With the cache, token by token, and without, in one pass: the same tokens."""
    model = tiny(family)
    edit = np.random.default_rng(0).normal(size=(1, 32)).astype(np.float32) * 3
    for where in ("all", "prompt", "last", "reply", [1, -1]):
        made = generate(model, PROMPT, set(), 6, edits=edit, layer=LAYER, where=where)[0].ids
        chosen, row = positions_of(where, len(PROMPT)), list(PROMPT)
        for wanted in made:
            at = torch.tensor([[float(chosen(i))] for i in range(len(row))])
            with changed(model.model.layers[LAYER], lambda h: h + at * torch.from_numpy(edit)), torch.no_grad():
                assert model(torch.tensor([row])).logits[0, -1].argmax() == wanted
            row.append(wanted)


def test_rows_of_a_batch_do_not_see_one_another():
    model = tiny()
    edits = np.random.default_rng(1).normal(size=(3, 32)).astype(np.float32)
    edits[0] = 0
    together = generate(model, PROMPT, set(), 8, edits=edits, layer=LAYER)
    alone = [generate(model, PROMPT, set(), 8, edits=e[None], layer=LAYER)[0].ids for e in edits]
    assert [g.ids for g in together] == alone and together[0].ids == generate(model, PROMPT, set(), 8)[0].ids


def test_an_end_ends_an_answer_and_drawing_follows_the_seed():
    model = tiny()
    whole = generate(model, PROMPT, set(), 8)[0]
    cut = generate(model, PROMPT, {whole.ids[3]}, 8)[0]
    assert not whole.ended and cut.ended and cut.ids == whole.ids[: whole.ids.index(whole.ids[3])]
    one, two, other = (generate(model, PROMPT, set(), 10, temperature=1.0, seed=s)[0].ids for s in (1, 1, 2))
    assert one == two != other
    assert whole.first.shape == (8192,) and np.exp(whole.first).sum() == pytest.approx(1, abs=1e-4)


def test_the_edit_has_the_length_and_the_direction_that_it_says(pair, monkeypatch):
    seen = []
    real = steer.generate
    monkeypatch.setattr(steer, "generate", lambda *a, **kw: seen.append(kw["edits"]) or real(*a, **kw))
    found = steer.steer(pair, "Hello you", "a cat", "a dog", strengths=(0.5, 2.0), randoms=2, tokens=5)
    (edits,) = seen
    ids = prompt_ids(pair.renderer, ["Hello you"])[0]
    norm = np.median(np.linalg.norm(block_states(pair.model, [ids], [LAYER], every=True)[0][0], axis=1))
    np.testing.assert_allclose(np.linalg.norm(edits, axis=1) / norm, [0, .5, .5, .5, 2, 2, 2], atol=1e-5)
    before, after = fve.unit(pair.ar.reconstruct(["a cat", "a dog"]))
    assert fve.cosines(edits[1], after - before) == pytest.approx(1, abs=1e-5) and abs(fve.cosines(edits[2], edits[1])) < 0.6
    np.testing.assert_allclose(edits[2] * 4, edits[5], rtol=1e-4)  # the random directions are the same at each strength
    assert [a.kind for a in found.answers] == ["unsteered", "steered", "random", "random", "steered", "random", "random"]
    assert found.answers[0].moved == 0 and found.answers[4].moved > found.answers[1].moved > 0
    assert found.norm == pytest.approx(norm, abs=1e-3) and "strength 0.5" in steer.told(found)


def test_words_are_edited_by_hand_or_by_replacement():
    assert steer.edited_words("a cat sat", None, ["cat=dog", "sat=ran"]) == "a dog ran" and steer.edited_words("a", "b", []) == "b"
    for edited, replaced, why in ((None, [], "--replace OLD=NEW; the words are: a cat"), (None, ["dog=cat"], "'dog' does not stand"),
                                  (None, ["cat"], "OLD=NEW"), ("b", ["cat=dog"], "not both")):
        with pytest.raises(UserError, match=why):
            steer.edited_words("a cat", edited, replaced)


def test_what_cannot_be_steered_is_told(pair):
    for kw, why in (({"edited": "a cat"}, "the same"), ({"strengths": (0.0,)}, "above 0"), ({"where": [99]}, "--at 99")):
        args = {"edited": "a dog"} | kw
        with pytest.raises(UserError, match=why):
            steer.steer(pair, "Hi", "a cat", args.pop("edited"), tokens=2, **args)


def test_the_verbalizer_gives_the_words_where_none_are_named(pair):
    said = pair.av.verbalize(block_states(pair.model, prompt_ids(pair.renderer, ["Hi"]), [LAYER])[0], tokens=9)[0].text
    assert steer.words_of(pair, "Hi", 9) == said
