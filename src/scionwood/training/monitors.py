"""What is watched while a model trains. A monitor is a callable that takes one dict per event."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Callable

from scionwood import files

Monitor = Callable[[dict], None]


def peak_memory_mb() -> float:
    """The highest resident memory of this process so far, in MB (on CUDA: of the device); 0 where the system does not say."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


class JsonLines:
    """Appends every event to a file. On resume, events from the checkpoint's step on are dropped first: they come again."""

    def __init__(self, path: Path, from_step: int = 0):
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if path.exists():
            for line in path.read_text("utf-8").splitlines():
                try:
                    if json.loads(line).get("step", 0) <= from_step:
                        kept.append(line)
                except ValueError:
                    continue  # a line torn by a kill
        files.write_text(path, "".join(k + "\n" for k in kept))
        self.file = open(path, "a", buffering=1, encoding="utf-8")

    def __call__(self, event: dict) -> None:
        self.file.write(json.dumps(event) + "\n")


def trackio_monitor(project: str, name: str, settings: dict) -> Monitor | None:
    """Logs to trackio where it is installed; else None."""
    try:
        import trackio
    except ImportError:
        return None
    trackio.init(project=project, name=name, config=settings)
    return lambda event: trackio.log({k: v for k, v in event.items() if isinstance(v, (int, float))})


NOTED = ("loss", "dev", "predictive_entropy", "repetition")  # what a progress line tells of an event


class Progress:
    """A progress bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, title: str, steps: int, echo: Callable[[str], None]):
        self.title, self.steps, self.echo, self.last = title, steps, echo, 0.0
        self.bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress as Bar, TextColumn, TimeRemainingColumn

            self.bar = Bar(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn(),
                           console=Console(stderr=True), transient=True)
            self.task = self.bar.add_task(title, total=steps, note="")
            self.bar.start()

    def __call__(self, event: dict) -> None:
        note = ", ".join(f"{name.replace('_', ' ')} {event[name]:.3f}" for name in NOTED if isinstance(event.get(name), float))
        if self.bar:
            self.bar.update(self.task, completed=event["step"], note=note)
            if event["step"] >= self.steps:
                self.close()
        elif time.monotonic() - self.last > 10 or event["step"] >= self.steps:
            self.last = time.monotonic()
            self.echo(f"  {self.title}: step {event['step']}/{self.steps}, {note}")

    def close(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None
