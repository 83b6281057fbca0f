"""Files are whole or as they were, whatever goes wrong on the way."""

import os

import pytest
import torch

from scionwood import files
from scionwood.errors import UserError

WRITERS = {
    "bytes": lambda path: files.write_bytes(path, b"new"),
    "text": lambda path: files.write_text(path, "new"),
    "json": lambda path: files.write_json(path, ["new"]),
    "jsonl": lambda path: files.write_jsonl(path, [{"new": 1}]),
    "tensors": lambda path: files.write_tensors(path, {"new": torch.ones(2)}),
}


@pytest.mark.parametrize("broken", ["replace", "fsync"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(write, broken, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(os, broken, fail)
        with pytest.raises(OSError):
            write(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_text() == "old"
    write(path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"] and path.read_bytes() != b"old"


def test_a_disk_that_is_full_for_tensors_is_said_in_one_line(tmp_path, monkeypatch):
    import safetensors.torch

    def fail(*args, **kw):
        raise safetensors.SafetensorError('Error while serializing: I/O error: No space left on device (os error 28)')

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(UserError, match="w.safetensors: cannot be written .*No space left.*; make room"):
        files.write_tensors(tmp_path / "w.safetensors", {"a": torch.ones(1)})
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_no_half_file(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_text(tmp_path / "file", "new")
    assert not list(tmp_path.iterdir())


def test_what_killed_processes_left_is_swept(tmp_path):
    for name in ("adapter/a/.checkpoint.safetensors.71.part", ".cache/0a1b.71.part", "adapter/a/log.jsonl", "notes.part"):
        files.write_text(tmp_path / name, "x")
    files.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["log.jsonl", "notes.part"]


def test_rows_are_read_as_they_were_written(tmp_path):
    rows = [{"a": "住在成都 \u2028 \x85", "n": 1.5}, {"a": "", "deep": [{"b": None}]}]
    files.write_jsonl(tmp_path / "rows.jsonl", rows)
    assert files.read_jsonl(tmp_path / "rows.jsonl") == rows
    (tmp_path / "rows.jsonl").write_text('\n{"a": 1}\n  \n{"a": "\\ud83d\\ude00"}', "utf-8")
    assert files.read_jsonl(tmp_path / "rows.jsonl") == [{"a": 1}, {"a": "😀"}]


@pytest.mark.parametrize("line, message", [
    ('{"a": 1', "not valid JSON"),
    ("[1, 2]", "a JSON object is expected"),
    ("nonsense", "not valid JSON"),
    ('{"a": "\\ud83d"}', "half of a surrogate pair"),
    ('{"\\uDC00": 1}', "half of a surrogate pair"),
])
def test_a_bad_line_is_named(line, message, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n' + line + "\n", "utf-8")
    with pytest.raises(UserError) as e:
        files.read_jsonl(path)
    assert str(e.value).startswith(f"{path}:3: {message}") and "\n" not in str(e.value)


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes(b'{"a": "\xe9"}\n')
    with pytest.raises(UserError, match="latin.jsonl: not UTF-8"):
        files.read_jsonl(tmp_path / "latin.jsonl")
    for read in (files.read_json, files.read_jsonl):
        with pytest.raises(UserError, match="none: no such file"):
            read(tmp_path / "none")
    (tmp_path / "half.json").write_text('{"a":')
    with pytest.raises(UserError, match="half.json: not valid JSON .*; mend or remove it"):
        files.read_json(tmp_path / "half.json")


def test_the_hash_of_a_folder_is_of_names_and_contents(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        files.write_text(folder / "x" / "one", "1")
        files.write_text(folder / "two", "2")
    assert files.file_hash(a) == files.file_hash(b)
    (b / ".two.99.part").write_text("being written")
    assert files.file_hash(a) == files.file_hash(b)
    (b / "two").write_text("3")
    assert files.file_hash(a) != files.file_hash(b)
    (b / "two").write_text("2")
    (b / "x" / "one").rename(b / "x" / "uno")
    assert files.file_hash(a) != files.file_hash(b)
    assert files.file_hash(a / "two") == "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"


def test_the_hash_of_a_value_ignores_the_order_of_keys():
    assert files.text_hash({"a": 1, "b": [2]}) == files.text_hash({"b": [2], "a": 1}) != files.text_hash({"a": 1, "b": 2})
