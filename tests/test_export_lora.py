"""Adapters between PEFT, mlx-lm and GGUF: the same weights, and a clear line where there is more than plain LoRA."""

import json

import gguf
import numpy as np
import pytest
import torch
from conftest import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from scionwood.errors import UserError
from scionwood.export.check import log_probs_of
from scionwood.export.gguf import write_gguf
from scionwood.export.gguf_lora import write_lora_gguf
from scionwood.export.lora import Lora, read_peft, write_peft
from scionwood.export.mlx import read_mlx, write_mlx
from scionwood.models.adapters import add_adapter
from scionwood.models.loading import load_adapter
from scionwood.models.llamacpp import LlamaCpp
from scionwood.models.settings import TARGETS, Adapter


def make_adapter(folder, family="qwen3", **adapter):
    """A PEFT adapter whose update is not zero, as the training loop would write it."""
    model = add_adapter(tiny_model(family), Adapter(rank=4, alpha=12, **adapter), seed=0)
    torch.manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(std=0.05)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("rslora", [False, True])
def test_a_lora_gguf_on_its_base_says_what_peft_says(family, rslora, tokenizer, tmp_path):
    folder = make_adapter(tmp_path / "a", family, rslora=rslora)
    base = write_gguf(tiny_model(family), tokenizer, tmp_path / "base.gguf", "f32", {"name": "base"})
    lora = write_lora_gguf(tiny_model(family).config, folder, tmp_path / "lora.gguf", {"name": "lora", "run": "abc"})
    prompt = tokenizer.encode("The kettle is in the barn. 住在成都。")
    ours = log_probs_of(load_adapter(tiny_model(family), folder))(prompt, [0])[0]
    plain = log_probs_of(tiny_model(family))(prompt, [0])[0]
    tokens = ours.topk(8).indices.tolist()
    with LlamaCpp(base, adapter=lora, context=256) as engine:
        theirs = engine.next_log_probs(prompt, tokens)
    assert max(abs(ours[t].item() - theirs[t]) for t in tokens) < 0.02
    assert max(abs(ours[t].item() - plain[t].item()) for t in tokens) > 0.2  # the adapter does something
    reader = gguf.GGUFReader(lora)
    assert reader.get_field("general.type").contents() == "adapter"
    assert reader.get_field("adapter.lora.alpha").contents() == pytest.approx(24 if rslora else 12)
    assert len(reader.tensors) == 2 * 7 * 4


def test_a_lora_gguf_of_another_base_is_refused(tmp_path):
    with pytest.raises(UserError, match="adapts layer 3, but the base has 2 layers"):
        write_lora_gguf(tiny_model(layers=2).config, make_adapter(tmp_path / "a"), tmp_path / "lora.gguf", {})


def test_mlx_layout_and_back(tmp_path):
    lora = read_peft(make_adapter(tmp_path / "a", last_layers=2, targets=["q_proj", "v_proj", "down_proj"], dropout=0.05))
    write_mlx(lora, "Qwen/Qwen3-1.7B", 4, tmp_path / "m")
    config = json.loads((tmp_path / "m/adapter_config.json").read_text())
    assert config == {"fine_tune_type": "lora", "model": "Qwen/Qwen3-1.7B", "num_layers": 2, "lora_parameters": {
        "rank": 4, "scale": 3.0, "dropout": 0.05, "keys": ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]}}
    tensors = load_file(tmp_path / "m/adapters.safetensors")
    assert [tuple(tensors[f"model.layers.3.mlp.down_proj.lora_{x}"].shape) for x in "ab"] == [(64, 4), (4, 32)]
    again = read_mlx(tmp_path / "m")
    assert (again.rank, again.scale, again.base) == (4, 3.0, "Qwen/Qwen3-1.7B")
    assert (again.layers(), again.targets()) == ([2, 3], ["q_proj", "v_proj", "down_proj"])
    assert all(torch.equal(x, y) for n in lora.pairs for x, y in zip(lora.pairs[n], again.pairs[n]))


def test_mlx_takes_the_last_layers_only(tmp_path):
    lora = read_peft(make_adapter(tmp_path / "a"))
    lora.pairs = {n: p for n, p in lora.pairs.items() if ".layers.3." not in n}
    with pytest.raises(UserError, match="mlx-lm adapts the last layers only"):
        write_mlx(lora, "base", 4, tmp_path / "m")


@settings(max_examples=20, deadline=None)
@given(rank=st.integers(1, 5), scale=st.floats(0.01, 100), layers=st.integers(1, 3),
       targets=st.sets(st.sampled_from(TARGETS), min_size=1))
def test_peft_and_mlx_keep_every_bit(rank, scale, layers, targets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("a")
    names = [f"model.layers.{i}.{'self_attn' if t in TARGETS[:4] else 'mlp'}.{t}" for i in range(layers) for t in targets]
    lora = Lora(rank, scale, 0.0, "x/y", {n: (torch.randn(rank, 6), torch.randn(5, rank)) for n in names})
    for again in (read_peft(write_peft(lora, folder / "p")), read_mlx(write_mlx(lora, "x/y", layers, folder / "m"))):
        assert again.scale == pytest.approx(scale) and again.layers() == lora.layers() and again.targets() == lora.targets()
        assert all(torch.equal(x, y) for n in names for x, y in zip(lora.pairs[n], again.pairs[n]))


def test_what_write_peft_writes_is_loaded_by_peft(tmp_path, tokenizer):
    made = make_adapter(tmp_path / "a", rslora=True)
    write_peft(read_peft(made), tmp_path / "b")
    ids = tokenizer.encode("the same words")
    a, b = (log_probs_of(load_adapter(tiny_model(), f))(ids, [0]) for f in (made, tmp_path / "b"))
    assert torch.allclose(a, b, atol=1e-5)


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


@pytest.mark.parametrize("values,said", [({"use_dora": True}, "use_dora"), ({"bias": "all"}, "bias = 'all'"),
                                         ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
                                         ({"peft_type": "IA3"}, "not a LoRA adapter"), ({"r": 0}, "r = 0"), ({"r": 8}, "do not fit rank 8"),
                                         ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern")])
def test_more_than_plain_lora_is_refused(values, said, tmp_path):
    folder = make_adapter(tmp_path / "a", last_layers=1)
    edit(folder / "adapter_config.json", **values)
    with pytest.raises(UserError) as e:
        read_peft(folder)
    assert said in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("name,said", [("base_model.model.lm_head.lora_A.weight", "adapts 'lm_head'"),
                                       ("base_model.model.model.norm.weight", "is no part of plain LoRA"),
                                       ("base_model.model.model.layers.1.mlp.up_proj.lora_A.weight", "only one of its two matrices")])
def test_foreign_tensors_are_refused(name, said, tmp_path):
    folder = make_adapter(tmp_path / "a", last_layers=1)
    path = folder / "adapter_model.safetensors"
    save_file({**load_file(path), name: torch.zeros(4, 32)}, path)
    with pytest.raises(UserError, match=said):
        read_peft(folder)


@pytest.mark.parametrize("config,said", [({}, "no lora_parameters"), ({"lora_parameters": {"rank": 4}}, "scale = None"),
                                         ({"fine_tune_type": "dora", "lora_parameters": {"rank": 4, "scale": 1}},
                                          "fine_tune_type = 'dora'"),
                                         ({"lora_parameters": {"rank": "4", "scale": 1}}, "rank = '4'"), ([], "no lora_parameters")])
def test_mlx_configs_that_are_refused(config, said, tmp_path):
    write_mlx(read_peft(make_adapter(tmp_path / "a")), "b", 4, tmp_path / "m")
    (tmp_path / "m/adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        read_mlx(tmp_path / "m")


def test_torn_files_are_one_line(tmp_path):
    write_mlx(read_peft(make_adapter(tmp_path / "a")), "b", 4, tmp_path / "m")
    path = tmp_path / "m/adapters.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read"):
        read_mlx(tmp_path / "m")
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        read_mlx(tmp_path / "m")


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_mlx_lm_itself_says_what_transformers_says(family, tokenizer, tmp_path):
    pytest.importorskip("mlx_lm", reason="mlx-lm is not installed (pip install 'scionwood[mlx]')")
    from scionwood.export.check_mlx import mlx_log_probs

    base = tmp_path / "base"
    tiny_model(family).save_pretrained(base)
    tokenizer.save_pretrained(base)
    adapter = make_adapter(tmp_path / "a", family, last_layers=3, targets=["q_proj", "v_proj", "up_proj"])
    write_mlx(read_peft(adapter), str(base), 4, tmp_path / "m")
    ids = tokenizer.encode("The kettle is in the barn, and Anna is at the harbour.")
    theirs = mlx_log_probs(str(base), tmp_path / "m")(ids)
    ours = log_probs_of(load_adapter(tiny_model(family), adapter))(ids[:1], ids[1:])
    assert (ours - theirs).abs().max() < 0.01
    plain = log_probs_of(tiny_model(family))(ids[:1], ids[1:])
    assert (plain - theirs).abs().max() > 0.2


def test_lora_tensors_are_the_adapters(tmp_path):
    folder = make_adapter(tmp_path / "a", "llama")
    reader = gguf.GGUFReader(write_lora_gguf(tiny_model("llama").config, folder, tmp_path / "l.gguf", {}))
    tensors = {t.name: np.array(t.data) for t in reader.tensors}
    a, b = read_peft(folder).pairs["model.layers.2.self_attn.q_proj"]
    assert np.array_equal(tensors["blk.2.attn_q.weight.lora_a"], a.numpy())
    theirs = tensors["blk.2.attn_q.weight.lora_b"]
    assert not np.array_equal(theirs, b.numpy())  # rows change places
    assert np.array_equal(np.sort(theirs, axis=0), np.sort(b.numpy(), axis=0))
