"""The voice aloud, where Piper or espeak-ng is installed. Speaking never holds the body up: a sentence that comes too soon is dropped."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

from scionwood.errors import UserError

LONGEST_S = 30.0  # a sentence that takes longer is cut off
WORDS_PER_MINUTE = 140


def programs(model: Path | None = None) -> list[list[str]] | None:
    """The commands, piped one into the next, that speak what is written to the first. None where nothing is installed.

    Piper is used where it has a voice (``model``, an .onnx file with its .json) and aplay can play it; else espeak-ng.
    Raises UserError where a voice is named that cannot be used.
    """
    piper, aplay, espeak = (shutil.which(name) for name in ("piper", "aplay", "espeak-ng"))
    if model is not None:
        if not piper or not aplay:
            raise UserError(f"--piper {model}: needs the programs piper and aplay (pip install piper-tts; apt install alsa-utils)")
        try:
            rate = int(json.loads(Path(f"{model}.json").read_text("utf-8"))["audio"]["sample_rate"])
        except (OSError, KeyError, TypeError, ValueError):
            raise UserError(f"--piper {model}: no voice (its settings {model}.json cannot be read)") from None
        return [[piper, "--model", str(model), "--output-raw"], [aplay, "-q", "-r", str(rate), "-f", "S16_LE", "-t", "raw", "-"]]
    return [[espeak, "-s", str(WORDS_PER_MINUTE), "--stdin"]] if espeak else None


class Speech:
    """Speaks with the given commands, one sentence at a time."""

    name = "speech"

    def __init__(self, commands: list[list[str]]):
        self.commands = commands
        self.running: list[subprocess.Popen] = []
        self.until = 0.0

    def open(self) -> None:
        """Raises where the program is gone."""
        for command in self.commands:
            if shutil.which(command[0]) is None:
                raise FileNotFoundError(f"{command[0]} is not installed any more")

    def say(self, text: str) -> bool:
        """Begin to speak; False where the last sentence is still being said. Raises OSError where a program cannot be started."""
        if self.busy():
            return False
        source, started = subprocess.PIPE, []
        try:
            for k, command in enumerate(self.commands):
                last = k == len(self.commands) - 1
                started.append(subprocess.Popen(command, stdin=source, stdout=subprocess.DEVNULL if last else subprocess.PIPE,
                                                stderr=subprocess.DEVNULL))
                if k:
                    source.close()  # the next program alone holds the pipe, and so sees its end
                source = started[-1].stdout
            with started[0].stdin as pipe:
                pipe.write(text.encode() + b"\n")
        except BrokenPipeError:
            pass  # it ended at once; its exit code tells
        except OSError:
            self.running = started
            self.close()
            raise
        self.running, self.until = started, time.monotonic() + LONGEST_S
        return True

    def busy(self) -> bool:
        """Whether something is being said. Raises RuntimeError where the last sentence failed."""
        if not self.running:
            return False
        if any(p.poll() is None for p in self.running):
            if time.monotonic() < self.until:
                return True
            self.close()
            raise RuntimeError(f"{self.commands[0][0]} was cut off after {LONGEST_S:g} s")
        codes, self.running = [p.returncode for p in self.running], []
        if any(codes):
            raise RuntimeError(f"{self.commands[0][0]} ended with code {next(c for c in codes if c)}")
        return False

    def close(self) -> None:
        """Fall silent at once."""
        running, self.running = self.running, []
        for p in running:
            if p.poll() is None:
                p.kill()
            p.wait()
            for pipe in (p.stdin, p.stdout):
                if pipe:
                    pipe.close()
