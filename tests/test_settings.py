"""Recipes: unknown keys, wrong values, --set."""

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from scionwood.errors import UserError
from scionwood.recipe import Recipe, read_recipe
from scionwood.settings import apply_sets, check

SHIPPED = sorted((Path(__file__).parent.parent / "src" / "scionwood" / "recipes").glob("cerebellum*.toml"))
GOOD = {"name": "x", "task": "cerebellum"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path):
    assert read_recipe(path).name == path.stem


def test_the_published_configuration():
    r = read_recipe(next(p for p in SHIPPED if "1.7b" in p.name))
    assert (r.base, r.adapter.rank, r.adapter.alpha / r.adapter.rank, r.adapter.dropout) == ("Qwen/Qwen3-1.7B", 16, 2.0, 0.05)
    assert (set(r.adapter.targets), r.adapter.last_layers) == ({"q_proj", "v_proj"}, 16)
    assert (r.train.batch, r.train.steps, r.train.lr, r.teacher.endpoint.model) == (4, 600, 1e-4, "Qwen3-4B")


@pytest.mark.parametrize(
    "data, message",
    [
        (GOOD | {"bsae": "x"}, "unknown key 'bsae'; did you mean 'base'?"),
        (GOOD | {"train": {"epoch": 3}}, "unknown key 'train.epoch'; did you mean 'epochs'?"),
        (GOOD | {"train": {"lr": -1}}, "train.lr = -1: Input should be greater than 0"),
        (GOOD | {"adapter": {"targets": ["lm_head"]}}, "adapter.targets = ['lm_head']: an update of 'lm_head' could not be exported"),
        (GOOD | {"teacher": {"kind": "endpoint"}}, "kind = 'endpoint' needs a table [teacher.endpoint]"),
        ({"name": "x"}, "key 'task' is missing"),
        (GOOD | {"train": {"\n": 1, "学习": 2}}, "unknown key 'train.\\n'"),
        (GOOD | {"name": "../x"}, "name = '../x'"),
        (GOOD | {"teacher": {"kind": "endpoint", "endpoint": {"base_url": "http://127.0.0.1:1/v1", "modle": "m"}}},
         "unknown key 'teacher.endpoint.modle'; did you mean 'model'?"),
        (GOOD | {"train": {"seeds": []}}, "train.seeds = []: at least one seed"),
        (GOOD | {"train": {"seeds": [0, -1]}}, "train.seeds = [0, -1]: at least one seed is needed, each from 0"),
        (GOOD | {"train": {"seeds": [1, 1]}}, "the same seed twice"),
        (GOOD | {"train": {"epochs": float("inf")}}, "train.epochs = inf: "),
        (GOOD | {"adapter": {"targets": []}}, "adapter.targets = []: name at least one matrix"),
    ],
)
def test_mistakes_are_one_line_with_the_mend(data, message):
    with pytest.raises(UserError) as e:
        check(data, Recipe, "r.toml")
    assert message in str(e.value) and str(e.value).startswith("r.toml: ") and "\n" not in str(e.value)


def test_set_overrides_in_order_and_reads_json():
    got = apply_sets({"train": {"lr": 1}}, ["train.lr=0.5", "train.seeds=[0,1]", "base=some/where", "train.lr=2e-3"])
    assert got == {"train": {"lr": 2e-3, "seeds": [0, 1]}, "base": "some/where"}


def test_a_date_in_a_recipe_is_refused_in_one_line(tmp_path):
    (tmp_path / "r.toml").write_text('name = 2026-01-02\ntask = "x"\n')
    with pytest.raises(UserError, match="r.toml: name = .*valid string"):
        read_recipe(tmp_path / "r.toml")


@pytest.mark.parametrize("item", ["train.lr", "=3", "name.deep=1"])
def test_bad_set_is_named(item):
    with pytest.raises(UserError, match="--set"):
        apply_sets({"name": "x"}, [item])


def test_broken_files_are_named(tmp_path):
    for content in ("name = ", "\x00"):
        path = tmp_path / "r.toml"
        path.write_text(content)
        with pytest.raises(UserError, match="r.toml: not valid TOML"):
            read_recipe(path)
    with pytest.raises(UserError, match="no such recipe"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(UserError, match="a folder"):
        read_recipe(tmp_path)


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c), max_leaves=8)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["name", "task", "base", "train", "adapter", "teacher", "x"]), json_values))
def test_arbitrary_tables_are_accepted_or_refused_in_one_line(data):
    try:
        check(data, Recipe, "r.toml")
    except UserError as e:
        assert "\n" not in str(e).replace("\\n", "")
