"""Twins of the outputs for a machine without LEDs and panel: coloured lines in a terminal, and pictures of the whole body."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Sequence, TextIO

from scionwood import files
from scionwood.tasks.lumen.body.light import HIGHEST, Lamp
from scionwood.tasks.lumen.body.palette import hexed
from scionwood.tasks.lumen.student.assemble import Expression
from scionwood.tasks.lumen.vocabulary import QUESTION, spelled

if TYPE_CHECKING:
    from PIL import Image

PICTURE = (272, 372)  # pixels of a picture of the body
GROUND, INK, FAINT = (20, 22, 28), (228, 224, 216), (140, 140, 148)


def lit(lamp: Lamp) -> tuple[int, int, int]:
    """How an LED looks on a screen, 0 to 255 each: its colour at a brightness that eyes would see, dark LEDs lifted (power 1/2.2)."""
    share = (lamp.brightness / HIGHEST) ** (1 / 2.2) if lamp.brightness > 0 else 0.0
    return tuple(min(255, round(v * min(1.0, share))) for v in lamp.colour)


def told(expression: Expression) -> str:
    """An expression as a line of text: its tokens, and a question mark behind a question."""
    return " ".join(map(spelled, expression.tokens)) + (" ?" if expression.pattern == QUESTION else "")


class Terminal:
    """A line for every new expression; on a terminal that shows colours, with the three lights."""

    name = "terminal"

    def __init__(self, stream: TextIO, colours: bool):
        self.stream, self.colours = stream, colours

    def open(self) -> None:
        """Nothing is needed."""

    def close(self) -> None:
        """Nothing is kept."""

    def show(self, t: float, lamps: Sequence[Lamp], shape: str, expression: Expression, said: str) -> None:
        """Print what is expressed at time ``t`` (seconds since 1970, shown as local time of day)."""
        discs = " ".join(self._disc(lit(lamp)) for lamp in lamps)
        clock = time.strftime("%H:%M:%S", time.localtime(t))
        print(f"{clock}  {discs}  {shape:24}{told(expression):44}{said}", file=self.stream, flush=True)

    def _disc(self, rgb: tuple[int, int, int]) -> str:
        r, g, b = rgb
        return f"\x1b[38;2;{r};{g};{b}m●\x1b[0m" if self.colours else hexed(rgb)


class Frames:
    """PNG pictures of the whole body in a folder, the newest ``keep`` of them: three lights, the drawing, and what is said."""

    name = "frames"

    def __init__(self, folder: Path, keep: int = 500):
        self.folder, self.keep, self.written = Path(folder), keep, []

    def open(self) -> None:
        """Make the folder; frames of an earlier session there are counted among the kept ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.written = sorted(self.folder.glob("frame-*.png"))

    def close(self) -> None:
        """Nothing is kept open."""

    def show(self, number: int, lamps: Sequence[Lamp], drawing: "Image.Image", caption: str, said: str) -> None:
        """Write one frame."""
        path = self.folder / f"frame-{number:08}.png"
        files.write_bytes(path, png(picture(lamps, drawing, caption, said)))
        if path not in self.written:
            self.written.append(path)
        while len(self.written) > self.keep:
            self.written.pop(0).unlink(missing_ok=True)


def picture(lamps: Sequence[Lamp], drawing: "Image.Image", caption: str, said: str) -> "Image.Image":
    """The body as one picture."""
    from PIL import Image, ImageDraw, ImageFont

    sheet = Image.new("RGB", PICTURE, GROUND)
    pen = ImageDraw.Draw(sheet, "RGBA")
    for k, lamp in enumerate(lamps):
        x, y, rgb = PICTURE[0] // 2 + (k - 1) * 64, 32, lit(lamp)
        for radius, alpha in ((24, 18), (19, 26), (15, 40), (11, 70)):
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(*rgb, alpha))
        pen.ellipse([x - 7, y - 7, x + 7, y + 7], fill=(*rgb, 255))
    sheet.paste(drawing, (16, 64))
    font, small = ImageFont.load_default(14), ImageFont.load_default(11)
    pen.text((16, 312), caption, INK, font)
    for row, line in enumerate(_wrapped(said, small, PICTURE[0] - 32)[:3]):
        pen.text((16, 332 + 13 * row), line, FAINT, small)
    return sheet


def _wrapped(text: str, font, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def png(image: "Image.Image") -> bytes:
    """A picture as a PNG file."""
    import io

    out = io.BytesIO()
    image.save(out, "PNG", compress_level=6)
    return out.getvalue()
