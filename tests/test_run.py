"""Stages: what is skipped, what goes on, what is thrown away."""

import errno
import sys

import pytest

from scionwood import files
from scionwood.errors import UserError
from scionwood.run import Run


@pytest.fixture
def place(tmp_path):
    lines = []
    run = Run(tmp_path / "run", echo=lines.append)
    run.lines = lines
    return run


def write(run, text):
    return lambda: files.write_text(run.path("out", "file"), text)


def stopped():
    raise KeyboardInterrupt


def test_a_stage_that_was_killed_keeps_what_it_has_for_the_same_inputs_only(place):
    def half():
        files.write_text(place.path("out", "checkpoint"), "half")
        stopped()

    for inputs, kept in (({"a": 1}, True), ({"a": 2}, False)):
        with pytest.raises(KeyboardInterrupt):
            place.stage("s", {"a": 1}, ["out"], half)
        seen = []
        place.stage("s", inputs, ["out"], lambda: seen.append(place.path("out", "checkpoint").exists()) or write(place, "x")())
        assert seen == [kept]
        files.write_text(place.path("stages", "s.json"), '{"inputs": "other", "outputs": {}}')


def test_a_kill_after_the_record_does_not_hide_a_changed_output(place):
    place.stage("s", {"a": 1}, ["out"], write(place, "x"))
    started = place.path("stages", "s.started")
    files.write_text(started, files.read_json(place.path("stages", "s.json"))["inputs"])  # killed before it was removed
    assert not place.stage("s", {"a": 1}, ["out"], write(place, "x"))
    files.write_text(place.path("out", "stray"), "changed")
    place.stage("s", {"a": 1}, ["out"], write(place, "x"))
    assert sorted(p.name for p in place.path("out").iterdir()) == ["file"]
    assert not started.exists()


def test_a_kill_while_old_outputs_are_removed_is_not_a_stage_to_go_on_with(place, monkeypatch):
    """Begun with A, cut short while it was cleared for B, then asked for A again: what is left of A is no start."""
    import scionwood.run as module

    with pytest.raises(KeyboardInterrupt):
        place.stage("s", "A", ["out"], lambda: files.write_text(place.path("out", "best"), "A") or stopped())
    with monkeypatch.context() as m:
        m.setattr(module, "remove", lambda path: stopped())
        with pytest.raises(KeyboardInterrupt):
            place.stage("s", "B", ["out"], write(place, "B"))
    place.stage("s", "A", ["out"], write(place, "A"))
    assert [p.name for p in place.path("out").iterdir()] == ["file"]


def test_what_is_not_done_is_said(place):
    with pytest.raises(UserError, match="stage 'teach' is not done yet; finish the run with 'scion run'"):
        place.facts("teach")


def test_the_lock_sweeps_what_killed_processes_left(place):
    part = place.path("adapter", "a", ".checkpoint.safetensors.1.part")
    files.write_text(part, "half")
    with place.lock():
        assert not part.exists()


def test_a_file_system_without_locks_is_no_other_process(place, monkeypatch):
    import fcntl

    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with place.lock():
        pass


def test_a_system_without_the_resource_module_still_records_stages(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with place.lock():
        assert place.stage("s", 1, ["out"], write(place, "x"))
