"""All outputs of a body together. Each is kept on its own: one that is lost is told once, looked for again, and missed by none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Sequence

from scionwood.tasks.lumen.body.dotstar import DotStars
from scionwood.tasks.lumen.body.keeping import Kept
from scionwood.tasks.lumen.body.light import HIGHEST, Lamp
from scionwood.tasks.lumen.body.screen import Panel
from scionwood.tasks.lumen.body.speech import Speech
from scionwood.tasks.lumen.body.twins import Frames, Terminal, told
from scionwood.tasks.lumen.live.session import Moment, Session

FRAME_EVERY = 5  # ticks between two pictures of the body
GALLERY = 200  # finished drawings that are kept


class Journal:
    """A JSON line for every expression: when, what, why, and what was said."""

    name = "journal"

    def __init__(self, path: Path):
        self.path, self.file = Path(path), None

    def open(self) -> None:
        """Open it to append."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "a", encoding="utf-8")

    def write(self, moment: Moment) -> None:
        """One line, on the disk when this returns."""
        self.file.write(json.dumps(line_of(moment), ensure_ascii=False) + "\n")
        self.file.flush()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class Gallery:
    """The finished drawings as PNG files in a folder, the newest ``GALLERY`` of them."""

    name = "gallery"

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def open(self) -> None:
        """Make the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)

    def keep(self, t: float, image: Any) -> None:
        """Keep a drawing that was finished at time ``t``."""
        from scionwood import files
        from scionwood.tasks.lumen.body.twins import png

        files.write_bytes(self.folder / f"drawing-{int(t):012}.png", png(image))
        for old in sorted(self.folder.glob("drawing-*.png"))[:-GALLERY]:
            old.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is kept open."""


def line_of(moment: Moment) -> dict[str, Any]:
    """An expression as a JSON value. Only for a moment that brought one."""
    e, why = moment.expression, moment.why
    odds = {forest: {k: round(v, 4) for k, v in classes.items()} for forest, classes in why.odds.items()}
    return {"t": moment.reading.t, "shape": why.shape, "pattern": e.pattern, "tokens": list(e.tokens), "said": moment.said,
            "why": {"occasion": why.occasion, "verdict": why.verdict, "numbers": {k: round(v, 6) for k, v in why.numbers.items()},
                    "odds": odds}}


class Outputs:
    """What a session is shown with. ``show`` takes a moment, ``lights`` the lamps between two moments."""

    def __init__(self, tell: Callable[[str], None], leds: bool = False, panel: bool = False, speech: list[list[str]] | None = None,
                 terminal: Terminal | None = None, frames: Path | None = None, gallery: Path | None = None, journal: Path | None = None,
                 highest: float = HIGHEST):
        self.leds = Kept(DotStars(highest=highest), tell, hangs=True) if leds else None
        self.panel = Kept(Panel(), tell, hangs=True) if panel else None
        self.speech = Kept(Speech(speech), tell) if speech else None
        self.terminal = Kept(terminal, tell) if terminal else None
        self.frames = Kept(Frames(frames), tell) if frames else None
        self.gallery = Kept(Gallery(gallery), tell) if gallery else None
        self.journal = Kept(Journal(journal), tell) if journal else None

    def show(self, session: Session, moment: Moment, lamps: Sequence[Lamp]) -> None:
        """Show one moment everywhere."""
        self.lights(lamps)
        if self.panel:
            image = session.drawing.image()
            self.panel.do(lambda panel: panel.show(image))
        if moment.why:
            if self.terminal:
                self.terminal.do(lambda t: t.show(moment.reading.t, lamps, moment.why.shape, moment.expression, moment.said))
            if self.journal:
                self.journal.do(lambda journal: journal.write(moment))
            if self.speech:
                self.speech.do(lambda speech: speech.say(moment.said))
        elif self.speech:
            self.speech.do(lambda speech: speech.busy())  # so that a program that hangs is ended in time
        if self.frames and moment.number % FRAME_EVERY == 0:
            caption = told(moment.expression) if moment.expression else "listening"
            self.frames.do(lambda f: f.show(moment.number, lamps, session.drawing.image(), caption, moment.said or session.said))
        if self.gallery and session.drawing.done:
            self.gallery.do(lambda gallery: gallery.keep(moment.reading.t, session.drawing.image()))

    def lights(self, lamps: Sequence[Lamp]) -> None:
        """Show the lamps alone."""
        if self.leds:
            self.leds.do(lambda leds: leds.show(lamps))

    def close(self) -> None:
        """Dark and silent."""
        for kept in vars(self).values():
            if isinstance(kept, Kept):
                kept.close()
