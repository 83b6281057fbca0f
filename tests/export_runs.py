"""A finished tiny run for the tests of exports, and the command scion on it."""

from __future__ import annotations

import sys

import pytest
from tiny_flow import TinyTask, make_base, make_flow, recipe


def make_run(folder):
    """A run of the tiny task on a tiny random base, with one adapter."""
    with pytest.MonkeyPatch.context() as m:
        settings = recipe(make_base(folder / "base"), epochs=4)
        settings = settings.model_copy(update={"evidence": settings.evidence.model_copy(update={"shuffled_control": False}),
                                               "adapter": settings.adapter.model_copy(update={"rank": 4, "alpha": 16.0})})
        make_flow(settings, folder / "tiny", m).all()
    return folder / "tiny"


def scion(monkeypatch, capsys, *arguments):
    """(exit code, stdout, stderr) of a command whose task is TinyTask."""
    import scionwood.flow
    from scionwood.cli import main

    monkeypatch.setattr(scionwood.flow, "load_task", lambda name, **options: TinyTask())
    monkeypatch.setattr(sys, "argv", ["scion", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    told = capsys.readouterr()
    return stopped.value.code or 0, told.out, told.err


def open_tiny(folder, monkeypatch):
    """The flow of the run."""
    import scionwood.flow

    monkeypatch.setattr(scionwood.flow, "load_task", lambda name, **options: TinyTask())
    return scionwood.flow.open_flow(folder, lambda text: None)
