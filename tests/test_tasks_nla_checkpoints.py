"""Opening verbalizer and reconstructor: from a run, from adapters, from whole weights in the published layout; and writing them."""

import json
import shutil

import numpy as np
import pytest
import yaml
from nla_tools_fakes import FAMILIES, LAYER, WIDTH, tiny, write_base, write_halves, write_run

from scionwood.errors import UserError
from scionwood.tasks.nla import fve
from scionwood.tasks.nla.checkpoints import open_pair
from scionwood.tasks.nla.packing import pack
from scionwood.tasks.nla.vectors import read_vectors
from scionwood.tasks.nla.verbalizer import Verbalizer
from scionwood.tasks.nla.weights import load_whole, shared_copy

WORDS = ["a cat on a mat", "shares fell", "等船"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base") / "base")


@pytest.fixture(scope="module")
def run(tmp_path_factory, base, renderer):
    return write_run(tmp_path_factory.mktemp("run") / "nla", base, renderer)


def values(n=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, WIDTH)).astype(np.float32)


def said(pair):
    return [s.text for s in pair.av.verbalize(values(), tokens=8)]


# -- runs ------------------------------------------------------------------------------------------------------------------


def test_a_run_opens_with_its_lowest_seed_or_the_one_that_is_named(run):
    first, other = open_pair(run), open_pair(run, seed=7)
    assert (first.av_name, first.ar_name, other.av_name) == ("av-3", "ar-3", "av-7")
    assert first.layer == LAYER and first.width == WIDTH and first.av.scale == 6.0
    assert said(first) != said(other) and not np.allclose(first.ar.reconstruct(WORDS), other.ar.reconstruct(WORDS))
    np.testing.assert_allclose(first.spread.mean, fve.fit_spread(read_vectors(run / "vectors/train.parquet").values).mean)
    with pytest.raises(UserError, match="seeds 3, 7"):
        open_pair(run, seed=4)


def test_what_is_given_wins_over_the_sidecar(run):
    assert open_pair(run, scale=9.0).av.scale == 9.0 and open_pair(run, layer=1).layer == 1


def test_a_run_that_is_not_finished_is_told(tmp_path, run, base):
    with pytest.raises(UserError, match="no run of task nla"):
        open_pair(tmp_path)
    (tmp_path / "recipe.lock.toml").write_text("")
    with pytest.raises(UserError, match="finish it with 'scion run'"):
        open_pair(tmp_path)
    shutil.copy(run / "nla_meta.yaml", tmp_path)
    with pytest.raises(UserError, match="no trained verbalizer and reconstructor"):
        open_pair(tmp_path)
    with pytest.raises(UserError, match="leave out --av"):
        open_pair(run, av=run)


def test_the_three_models_share_the_base_and_none_changes_another(run):
    pair = open_pair(run)
    ids = pair.renderer.encode("hello there")
    import torch

    before = pair.model(torch.tensor([ids])).logits
    said(pair), pair.ar.reconstruct(WORDS)
    assert torch.equal(before, pair.model(torch.tensor([ids])).logits)
    own = {p.data_ptr() for p in pair.model.parameters()}
    for half in (pair.av.model, pair.ar.model):
        frozen = [p for n, p in half.named_parameters() if "lora" not in n]
        assert frozen and all(p.data_ptr() in own for p in frozen)


def test_a_copy_has_hooks_of_its_own():
    model = tiny()
    copy = shared_copy(model)
    copy.model.layers[0].register_forward_hook(lambda *_: None)
    assert not model.model.layers[0]._forward_hooks and copy.lm_head.weight is model.lm_head.weight


# -- folders ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_packed_adapters_and_whole_weights_say_the_same(tmp_path, renderer, family):
    base = write_base(tmp_path / "base", family)
    write_halves(base, tmp_path / "a", tmp_path / "r", renderer)
    pair = open_pair(av=tmp_path / "a", ar=tmp_path / "r")
    wanted, vectors = said(pair), pair.ar.reconstruct(WORDS)
    before = {n: p.clone() for n, p in pair.model.named_parameters()}
    pack(pair, tmp_path / "light")
    pack(pair, tmp_path / "whole", whole=True)
    assert all((before[n] == p).all() for n, p in pair.model.named_parameters())
    for folder in ("light", "whole"):
        again = open_pair(av=tmp_path / folder / "av", ar=tmp_path / folder / "ar", base=str(base) if folder == "light" else None)
        assert said(again) == wanted
        np.testing.assert_allclose(again.ar.reconstruct(WORDS), vectors, atol=2e-4)
    config = json.loads((tmp_path / "whole/ar/config.json").read_text())
    assert config["num_hidden_layers"] == LAYER + 1 and (tmp_path / "whole/ar/value_head.safetensors").exists()
    meta = yaml.safe_load((tmp_path / "whole/av/nla_meta.yaml").read_text())
    assert meta["kind"] == "nla_model" and meta["schema_version"] == 2 and meta["role"] == "av" and meta["d_model"] == WIDTH
    assert meta["extraction"]["injection_scale"] == 6.0 and meta["extraction"]["mse_scale"] == pytest.approx(WIDTH**0.5)
    assert renderer.tokenizer.encode(meta["tokens"]["injection_char"], add_special_tokens=False) == [meta["tokens"]["injection_token_id"]]
    with pytest.raises(UserError, match="is not empty"):
        pack(pair, tmp_path / "whole")


def published(folder, family, renderer, base):
    """A pair as the published client expects it: whole weights, keys and roles as its trainer spells them."""
    from safetensors.torch import save_file
    import torch

    from nla_tools_fakes import sidecar
    from scionwood.tasks.nla.cutting import cut
    from transformers import AutoTokenizer

    model = tiny(family, seed=5)
    for role, part in (("av", model), ("ar", cut(tiny(family, seed=6), LAYER))):
        headless = role == "ar" or model.config.tie_word_embeddings
        weights = {k: v for k, v in part.state_dict().items() if not (k == "lm_head.weight" and headless)}
        part.save_pretrained(folder / role, state_dict=weights)
        AutoTokenizer.from_pretrained(base).save_pretrained(folder / role)
        meta = sidecar("someone/base", role, renderer).model_dump(mode="json")
        meta["role"] = {"av": "actor", "ar": "critic"}[role]
        meta["something_new"] = 1
        (folder / role / "nla_meta.yaml").write_text(yaml.safe_dump(meta, allow_unicode=True))
    save_file({"weight": torch.eye(WIDTH)}, folder / "ar/value_head.safetensors")
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_the_published_layout_loads_as_it_is(tmp_path, renderer, base, family):
    folder = published(tmp_path, family, renderer, base)
    pair = open_pair(av=folder / "av", ar=folder / "ar")
    plain = Verbalizer(tiny(family, seed=5), renderer, 6.0)
    assert said(pair) == [s.text for s in plain.verbalize(values(), tokens=8)]
    import torch

    ids = renderer.tokenizer.encode(f"A summary of this text: <text>{WORDS[0]}</text> <summary>")
    with torch.no_grad():
        hidden = tiny(family, seed=6)(torch.tensor([ids]), output_hidden_states=True).hidden_states[LAYER + 1][0, -1]
    np.testing.assert_allclose(pair.ar.reconstruct(WORDS[:1])[0], hidden.numpy(), atol=1e-4)
    with pytest.raises(UserError, match="someone/base"):
        pair.model  # noqa: B018 - only looking into the base needs it, and it is nowhere here


def edited(folder, change):
    meta = yaml.safe_load((folder / "nla_meta.yaml").read_text())
    change(meta)
    (folder / "nla_meta.yaml").write_text(yaml.safe_dump(meta, allow_unicode=True))


@pytest.mark.parametrize("role, change, why", [
    ("av", lambda m: m["tokens"].update(injection_token_id=17), "injection|token"),
    ("av", lambda m: m["tokens"].update(injection_left_neighbor_id=17), "left neighbour"),
    ("av", lambda m: m["extraction"].update(injection_scale=None), "injection_scale is missing"),
    ("av", lambda m: m.update(d_model=64), "64"), ("av", lambda m: m.update(role="ar"), "role"),
    ("ar", lambda m: m["tokens"].update(critic_suffix_ids=[1, 2]), "critic_suffix_ids"),
    ("ar", lambda m: m.update(extraction_layer_index=1), "different layers|blocks"),
    ("av", lambda m: m.pop("tokens"), "tokens"),
])
def test_what_does_not_belong_together_is_told(tmp_path, renderer, base, role, change, why):
    folder = published(tmp_path, "qwen3", renderer, base)
    edited(folder / role, change)
    with pytest.raises(UserError, match=why):
        pair = open_pair(av=folder / "av", ar=folder / "ar")
        said(pair), pair.ar.reconstruct(WORDS)


def test_folders_that_hold_nothing_are_told(tmp_path, base):
    for folder, why in ((tmp_path / "no", "no such folder"), (tmp_path, "neither safetensors weights"), (base, "nla_meta.yaml")):
        with pytest.raises(UserError, match=why):
            open_pair(av=folder)
    with pytest.raises(UserError, match="needs a verbalizer"):
        open_pair().av
    with pytest.raises(UserError, match="needs the base"):
        open_pair().model


def test_remote_code_and_unknown_families_are_refused(tmp_path, base):
    import torch

    shutil.copytree(base, tmp_path / "b")
    config = json.loads((base / "config.json").read_text())
    for change, why in (({"auto_map": {"AutoModel": "x.y"}}, "remote code"), ({"model_type": "gpt2"}, "not supported")):
        (tmp_path / "b/config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=why):
            load_whole(tmp_path / "b", "b", torch.device("cpu"), torch.float32)
