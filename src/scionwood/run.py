"""The run folder: stages that read files and write files, each skipped when its inputs have not changed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from pathlib import Path
from typing import Any, Callable, Iterator

from scionwood import __version__, files
from scionwood.errors import UserError
from scionwood.files import file_hash, read_json, text_hash, write_json


class Run:
    """A run folder and what is said about it on the terminal."""

    def __init__(self, folder: Path, echo: Callable[[str], None] = print):
        self.folder, self.echo = Path(folder), echo

    def path(self, *parts: str) -> Path:
        return self.folder.joinpath(*parts)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process works in a run folder. The lock dies with its process, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = open(self.path(".lock"), "w")
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # not a POSIX system: no lock
            pass
        except OSError as e:
            if e.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(f"{self.folder}: another process is working in this run; wait for it or stop it") from None
            # a file system without locks (some network mounts): go on as where there are none
        else:
            files.sweep(self.folder)
        try:
            yield
        finally:
            handle.close()

    def stage(self, name: str, inputs: dict[str, Any], outputs: list[str], work: Callable[[], dict | None]) -> bool:
        """Run ``work`` unless it was done with the same inputs and its outputs are still what it wrote.

        ``inputs`` is a JSON value whose hash stands for all that the stage depends on; ``outputs`` are paths in the run folder.
        Returns whether the work was done. The record in ``stages/NAME.json`` is written last, so a kill leaves the stage undone;
        what the stage itself keeps for going on (checkpoints, journals) is dropped when the inputs are others.
        """
        record = self.path("stages", f"{name}.json")
        wanted = text_hash([__version__, inputs])
        started = self.path("stages", f"{name}.started")
        if record.exists():
            old = read_json(record)
            changed = "its inputs have changed" if old["inputs"] != wanted else self._changed_output(old["outputs"])
            if not changed:
                self.echo(f"{name}: skipped (nothing that it depends on has changed)")
                return False
            self.echo(f"{name}: done again ({changed})")
            started.unlink(missing_ok=True)  # a kill after the record was written has left it: what it began is out of date
            record.unlink()
        if started.exists() and started.read_text() == wanted:
            self.echo(f"{name}: going on where it stopped")
        else:
            started.unlink(missing_ok=True)  # first: a kill between two removals must not look like a stage to go on with
            for out in outputs:
                remove(self.path(out))
            files.write_text(started, wanted)
        begin = time.perf_counter()
        facts = work() or {}
        missing = [o for o in outputs if not self.path(o).exists()]
        if missing:
            raise RuntimeError(f"stage {name} did not write {missing[0]}")
        from scionwood.training.monitors import peak_memory_mb

        write_json(record, {
            "status": "done",
            "inputs": wanted,
            "outputs": {o: file_hash(self.path(o)) for o in outputs},
            "seconds": round(time.perf_counter() - begin, 2),
            "peak_memory_mb": round(peak_memory_mb()),
            "facts": facts,
        })
        started.unlink(missing_ok=True)
        self.echo(f"{name}: done in {time.perf_counter() - begin:.1f} s")
        return True

    def _changed_output(self, outputs: dict[str, str]) -> str:
        for name, wanted in outputs.items():
            path = self.path(name)
            if not path.exists():
                return f"{name} is gone"
            if file_hash(path) != wanted:
                return f"{name} was changed"
        return ""

    def record(self, stage: str) -> dict[str, Any]:
        """What is known of a stage that is done. Raises UserError where it is not."""
        path = self.path("stages", f"{stage}.json")
        if not path.exists():
            raise UserError(f"{self.folder}: stage '{stage}' is not done yet; finish the run with 'scion run'")
        return read_json(path)

    def facts(self, stage: str) -> dict[str, Any]:
        return self.record(stage)["facts"]

    def output_hash(self, stage: str) -> str:
        """What a later stage takes as input: the hashes of all that ``stage`` wrote."""
        return text_hash(self.record(stage)["outputs"])


def remove(path: Path) -> None:
    """Remove a file or a folder; nothing happens where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_run(folder: Path) -> "Run":
    """An existing run, for commands that only look."""
    folder = Path(folder)
    if not (folder / "recipe.lock.toml").exists():
        raise UserError(f"{folder}: not a run folder (no recipe.lock.toml); 'scion run RECIPE' makes one")
    return Run(folder)


def default_folder(name: str) -> Path:
    """Where the run of a recipe goes: below ``runs``, or below the folder that SCION_RUNS names."""
    return Path(os.environ.get("SCION_RUNS", "runs")) / name
