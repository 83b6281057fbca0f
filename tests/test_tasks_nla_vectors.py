"""Files of vectors and their sidecars: what is written is what is read, and what cannot be read is named."""

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from scionwood.errors import UserError
from scionwood.tasks.nla import meta, vectors as module
from scionwood.tasks.nla.meta import Checkpoint, Dataset, Extraction, Scales, Tokens, check_tokens, find, read_meta, sidecar_of, write_meta
from scionwood.tasks.nla.template import Marker
from scionwood.tasks.nla.vectors import Vectors, describe_norms, read_vectors, write_vectors

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def made(n: int = 5, d: int = 4, layer: int | None = 3) -> Vectors:
    values = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    return Vectors([f"d{i}" for i in range(n)], [f"text {i}" for i in range(n)], np.arange(n) + 9, values,
                   Dataset(extraction=Extraction(layer_index=layer)))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_vectors_survive_the_file(tmp_path_factory, data):
    n, d = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 9))
    floats = st.floats(width=32, allow_nan=False)
    values = np.array(data.draw(st.lists(st.lists(floats, min_size=d, max_size=d), min_size=n, max_size=n)), dtype=np.float32).reshape(n, d)
    strings = st.lists(TEXT, min_size=n, max_size=n)
    given_ = Vectors(data.draw(strings), data.draw(strings), np.array(data.draw(st.lists(st.integers(0, 1 << 40), min_size=n, max_size=n)),
                                                                      dtype=np.int64),
                     values, Dataset(dataset_id=data.draw(TEXT), extraction=Extraction(layer_index=2, corpus=data.draw(TEXT))))
    path = tmp_path_factory.mktemp("v") / "v.parquet"
    module.ROWS, kept = data.draw(st.integers(1, 5)), module.ROWS
    try:
        write_vectors(path, given_)
    finally:
        module.ROWS = kept
    back = read_vectors(path)
    assert (back.ids, back.texts, back.positions.tolist()) == (given_.ids, given_.texts, given_.positions.tolist())
    assert back.values.tobytes() == values.tobytes() and back.values.shape == (n, d)
    assert back.meta.dataset_id == given_.meta.dataset_id and back.meta.extraction.corpus == given_.meta.extraction.corpus
    assert (back.meta.row_count, back.meta.extraction.d_model) == (n, d)


def test_the_columns_are_the_published_ones(tmp_path):
    path = tmp_path / "v.parquet"
    write_vectors(path, made())
    table = pq.read_table(path)
    assert table.schema.names == ["n_raw_tokens", "detokenized_text_truncated", "activation_vector", "activation_layer", "doc_id"]
    assert table.schema.field("activation_vector").type == pa.list_(pa.float32(), 4)
    assert table["n_raw_tokens"].to_pylist() == [10, 11, 12, 13, 14] and set(table["activation_layer"].to_pylist()) == {3}
    assert sidecar_of(path).name == "v.parquet.nla_meta.yaml"
    assert "kind: nla_dataset" in sidecar_of(path).read_text() and "norm: none" in sidecar_of(path).read_text()


def test_lists_of_other_programs_are_read(tmp_path):
    """Variable-length lists, float64, a sliced and chunked table, no sidecar and few columns."""
    values = np.arange(12, dtype=np.float64).reshape(6, 2)
    path = tmp_path / "v.parquet"
    lists = pa.table({"activation_vector": pa.array(values.tolist(), pa.list_(pa.float64()))})
    pq.write_table(lists.slice(1, 4), path, row_group_size=2)
    back = read_vectors(path)
    assert np.array_equal(back.values, values[1:5]) and back.values.dtype == np.float32 and back.ids == ["row-0", "row-1", "row-2", "row-3"]
    assert back.layer is None and back.positions.tolist() == [-1] * 4


@pytest.mark.parametrize("spoil, message", [
    (lambda p: p.write_bytes(b"PAR1 not one"), "not a Parquet file"),
    (lambda p: p.write_bytes(p.read_bytes()[:-40]), "not a Parquet file"),
    (lambda p: pq.write_table(pa.table({"x": [1]}), p), "has no column activation_vector; its columns are x"),
    (lambda p: pq.write_table(pa.table({"activation_vector": ["a"]}), p), "holds string, not lists"),
    (lambda p: pq.write_table(pa.table({"activation_vector": pa.array([[1.0], [1.0, 2.0]])}), p), "not equally long"),
    (lambda p: pq.write_table(pa.table({"activation_vector": pa.array([[1.0, 2.0], None])}), p), "empty values"),
    (lambda p: pq.write_table(pa.table({"activation_vector": pa.array([[1.0, None]])}), p), "empty values"),
    (lambda p: pq.write_table(pa.table({"activation_vector": pa.array([[1.0]]), "activation_layer": [3]}), p), "sidecar says 4"),
    (lambda p: sidecar_of(p).write_text("kind: nla_dataset\nextraction: {d_model: 9}\n"), "its sidecar says 9"),
    (lambda p: sidecar_of(p).write_text("kind: nla_dataset\nextraction: {layer_index: 7}\n"), "layer 3, its sidecar says 7"),
    (lambda p: sidecar_of(p).write_text("kind: nla_model\nrole: av\nd_model: 4\n"), "describes a checkpoint"),
    (lambda p: sidecar_of(p).write_text("kind: [1\n"), "not valid YAML"),
    (lambda p: sidecar_of(p).write_text("- 1\n"), "kind = None is not known"),
    (lambda p: sidecar_of(p).write_text("kind: nla_dataset\nrow_count: -3\n"), "row_count = -3"),
    (lambda p: sidecar_of(p).write_text("kind: !!python/object/apply:os.system ['true']\n"), "not valid YAML"),
    (lambda p: p.unlink(), "no such file of vectors"),
])
def test_what_cannot_be_read_is_named(spoil, message, tmp_path):
    path = tmp_path / "v.parquet"
    write_vectors(path, made())
    spoil(path)
    with pytest.raises(UserError, match=message):
        read_vectors(path)


def test_several_layers_are_refused(tmp_path):
    path = tmp_path / "v.parquet"
    pq.write_table(pa.table({"activation_vector": pa.array([[1.0], [2.0]]), "activation_layer": [3, 4]}), path)
    with pytest.raises(UserError, match="several layers .3, 4.; split it"):
        read_vectors(path)


def test_safetensors_are_read_and_others_refused(tmp_path):
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "d.safetensors"
    save_file({"b": torch.ones(3), "a": torch.arange(6.0).reshape(2, 3).to(torch.bfloat16)}, path)
    back = read_vectors(path)
    assert back.ids == ["a-0", "a-1", "b"] and back.values.tolist() == [[0, 1, 2], [3, 4, 5], [1, 1, 1]]
    for tensors, message in (({"a": torch.ones(2), "b": torch.ones(3)}, "not equally long"), ({"a": torch.ones(1, 1, 2)}, "is no vector"),
                             ({"a": torch.ones(2, dtype=torch.int64)}, "is no vector"), ({}, "holds no vector")):
        save_file(tensors, path)
        with pytest.raises(UserError, match=message):
            read_vectors(path)
    path.write_bytes(b"\x00" * 20)
    with pytest.raises(UserError, match="not a safetensors file"):
        read_vectors(path)
    (tmp_path / "v.pt").write_bytes(b"x")
    with pytest.raises(UserError, match="read from .parquet and .safetensors"):
        read_vectors(tmp_path / "v.pt")


def test_norms_name_outliers():
    v = made(n=9)
    v.values[:] /= np.linalg.norm(v.values, axis=1, keepdims=True)
    v.values[4] *= 9
    v.values[7, 0] = np.nan
    figures = describe_norms(v)
    assert figures["median"] == pytest.approx(1) and figures["max"] == pytest.approx(9)
    assert [w["id"] for w in figures["outliers"]] == ["d4", "d7"]
    part = v.take([4, 0])
    assert part.ids == ["d4", "d0"] and np.array_equal(part.values, v.values[[4,
                                                                              0]]) and part.meta.row_count == 2 and v.meta.row_count is None


# -- sidecars -------------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), TEXT)


@settings(max_examples=40, deadline=None)
@example(role="av", stage=None, scale=1.0, created="", by="", char="㈎", trained="\x85", training={})
@given(role=st.sampled_from(["av", "ar"]), stage=st.none() | TEXT, scale=st.floats(1e-3, 1e6), created=TEXT, by=TEXT, char=TEXT,
       trained=st.recursive(SCALARS, lambda s: st.lists(s, max_size=3) | st.dictionaries(TEXT, s, max_size=3), max_leaves=6),
       training=st.dictionaries(TEXT, SCALARS, max_size=3))
def test_sidecars_survive_the_file(tmp_path_factory, role, stage, scale, created, by, char, trained, training):
    folder = tmp_path_factory.mktemp("m")
    given_ = Checkpoint(role=role, stage=stage, d_model=8, extraction=Scales(injection_scale=scale), created_at=created, created_by=by,
                        trained_on=trained,
                        training=training, tokens=Tokens(injection_char=char, injection_token_id=3, critic_suffix_ids=[1, 2]))
    write_meta(folder, given_)
    assert read_meta(folder) == given_ and (folder / "nla_meta.yaml").exists()


def test_a_sidecar_of_another_program_is_read(tmp_path):
    (tmp_path / "nla_meta.yaml").write_text("""kind: nla_model
schema_version: 2
role: critic
d_model: 2560
created_at: 2026-05-06
extraction: {injection_scale: 150, mse_scale: 50.6}
tokens: {injection_char: ㈎, injection_token_id: 149705, injection_left_neighbor_id: 29, injection_right_neighbor_id: 522}
extraction_layer_index: 20
something_new: {a: 1}
""", "utf-8")
    got = read_meta(tmp_path)
    assert (got.role, got.created_at, got.extraction.injection_scale, got.extraction_layer_index) == ("ar", "2026-05-06", 150, 20)
    write_meta(tmp_path, got)
    assert read_meta(tmp_path).something_new == {"a": 1}
    (tmp_path / "nla_meta.yaml").write_text("kind: nla_model\nrole: pilot\nd_model: 3\n")
    with pytest.raises(UserError, match="role = 'pilot'"):
        read_meta(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_meta(tmp_path / "nothing")


def test_what_is_given_wins_over_the_checkpoint_and_that_over_the_data():
    checkpoint = Checkpoint(role="av", d_model=8, extraction=Scales(injection_scale=150))
    data = Dataset(extraction=Extraction(d_model=9, layer_index=20))
    assert find("extraction.injection_scale", 30.0, checkpoint, data) == (30.0, "given")
    assert find("extraction.injection_scale", None, checkpoint, data) == (150, "checkpoint")
    assert find("extraction_layer_index", None, checkpoint, data) == (20, "dataset")
    assert find("d_model", None, checkpoint, data) == (8, "checkpoint")
    assert find("extraction.mse_scale", None, checkpoint, data) == (None, "")


def test_ids_are_asserted_against_the_live_tokenizer(tokenizer):
    from scionwood.tasks.nla.template import find_marker, suffix_ids

    marker, suffix = find_marker(tokenizer), suffix_ids(tokenizer)
    good = dict(injection_char=marker.char, injection_token_id=marker.id, injection_left_neighbor_id=marker.left,
                injection_right_neighbor_id=marker.right, critic_suffix_ids=suffix)
    check_tokens(Tokens(**good), marker, tokenizer, suffix)
    for key, value, message in (("injection_token_id", 7, "should be token 7, this tokenizer gives"),
                                ("injection_left_neighbor_id", 7, "the left neighbour"),
                                ("injection_right_neighbor_id", 7, "the right neighbour"), ("injection_char", "ab", "should be token"),
                                ("critic_suffix_ids", [1], "critic_suffix_ids = .1., this tokenizer gives")):
        with pytest.raises(UserError, match=message):
            check_tokens(Tokens(**(good | {key: value})), marker, tokenizer, suffix)
    assert isinstance(marker, Marker) and meta.NAME == "nla_meta.yaml"
