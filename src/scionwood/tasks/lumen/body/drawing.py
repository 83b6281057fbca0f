"""A drawing of 240 x 240 that grows with the session: a plant, one gesture of the pen for every state.

The plant is what was felt. Tokens choose the gestures (a stem grows, forks, puts out a leaf, draws a ring, scatters spores, ...) and the
colour of the ink; stability steadies the hand, presence gives it length, clarity gives the ink its strength, warmth its tint. When its
arc is done, the drawing is finished and the next one begins. The same seed and the same states give the same picture.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, NamedTuple

from scionwood.tasks.lumen.body.arc import CLOSING, DONE, OPENING, Arc
from scionwood.tasks.lumen.body.light import Temper
from scionwood.tasks.lumen.body.palette import MANNERS, NEUTRAL, RGB, tinted
from scionwood.tasks.lumen.student.assemble import Expression

if TYPE_CHECKING:
    from PIL import Image

SIZE = 240  # pixels, of the panel
FINE = 2  # the pen draws this much larger, so that lines are smooth
PAPER = (11, 13, 18)
GESTURES = ("grow", "branch", "leaf", "ring", "dots", "curl", "wander", "bar", "glow", "spores")
TIPS = 14  # growing ends at most
MARGIN = 12
PHASE_LIKES = {OPENING: {"grow": 5.0, "branch": 0.8}, CLOSING: {"dots": 3.0, "glow": 1.0, "spores": 2.0}}


class Tip(NamedTuple):
    """A growing end: its place in pixels of the panel, its heading in radians (up is -pi/2), its width and its age in steps."""

    x: float
    y: float
    heading: float
    width: float
    age: int = 0


class Drawing:
    """The sheet on which the pen draws. ``gesture`` makes one mark, ``image`` gives the picture."""

    def __init__(self, seed: int | str = 0):
        self.seed, self.number = seed, 0
        self._begin()

    def _begin(self) -> None:
        from PIL import Image, ImageDraw

        self.number += 1
        self.random = random.Random(f"{self.seed}/{self.number}")
        self.arc = Arc(len(GESTURES))
        side = SIZE * FINE
        self.sheet = Image.new("RGB", (side, side), PAPER)
        self.pen = ImageDraw.Draw(self.sheet, "RGBA")
        lean = self.random.uniform(-0.15, 0.15)
        self.tips = [Tip(SIZE / 2 + self.random.uniform(-14, 14), SIZE - MARGIN, -math.pi / 2 + lean, 3.4)]
        self.nodes = [self.tips[0]]  # places on the stems, where leaves and new shoots may come
        self.cells: dict[tuple[int, int], int] = {}  # how often the pen touched each of 30 x 30 cells
        ground = SIZE - MARGIN + 1
        self._line([(SIZE * 0.28, ground), (SIZE * 0.72, ground)], (92, 82, 70), 0.8, 110)

    @property
    def done(self) -> bool:
        """Whether this sheet is finished; the next gesture begins another."""
        return self.arc.phase == DONE

    def image(self) -> "Image.Image":
        """The picture, SIZE x SIZE pixels of RGB."""
        return self.sheet.reduce(FINE)

    def gesture(self, expression: Expression | None, temper: Temper) -> str:
        """Make one gesture, out of what is expressed and felt; returns its kind."""
        if self.done:
            self._begin()
        manners = [MANNERS[t] for t in expression.tokens] if expression else [NEUTRAL]
        manner = manners[self.arc.gestures % len(manners)]
        likes = {"grow": 2.0, "branch": 0.5, "leaf": 0.7}
        for wish in (manner.gestures, PHASE_LIKES.get(self.arc.phase, {})):
            for kind, weight in wish.items():
                likes[kind] = likes.get(kind, 0.0) + weight
        kinds = list(likes)
        kind = self.random.choices(kinds, list(likes.values()))[0]
        grows = kind in ("grow", "branch", "wander")
        at = self._free(self.tips) if grows else self._free(self.nodes)
        ink = tinted(self._varied(manner.colour), temper.warmth)
        self._draw(kind, at, ink, temper)
        intent = (likes[kind] / max(likes.values())) * (0.5 + 0.5 * temper.clarity)
        self.arc.made(kind, intent, len(self.cells) / 900)
        return kind

    # -- the hand ----------------------------------------------------------------------------------------------------------

    def _free(self, places: list[Tip]) -> int:
        """Which of some places is drawn at: of four taken by chance, the one with the least ink ahead."""
        few = [self.random.randrange(len(places)) for _ in range(4)]
        return min(few, key=lambda k: self._ink(places[k]))

    def _ink(self, tip: Tip) -> float:
        """How much ink lies ahead of a place; off the paper counts as a lot."""
        x, y = tip.x + 12 * math.cos(tip.heading), tip.y + 12 * math.sin(tip.heading)
        cells = [(int(x) // 8 + i, int(y) // 8 + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        return sum(self.cells.get(c, 0) for c in cells) + (200 if self._outside(x, y) else 0)

    def _outside(self, x: float, y: float) -> bool:
        """Whether a place lies outside the crown, an ellipse that leaves a margin."""
        return ((x - SIZE / 2) / (SIZE / 2 - MARGIN)) ** 2 + ((y - 0.49 * SIZE) / (0.49 * SIZE - MARGIN)) ** 2 > 1 and y < 0.75 * SIZE

    def _varied(self, colour: RGB) -> RGB:
        shift = self.random.uniform(-14, 14)
        return tuple(min(255.0, max(0.0, v + shift)) for v in colour)

    def _draw(self, kind: str, k: int, ink: RGB, temper: Temper) -> None:
        strength = 0.55 + 0.45 * temper.clarity
        {"grow": self._grow, "branch": self._branch, "leaf": self._leaf, "ring": self._ring, "dots": self._dots, "curl": self._curl,
         "wander": self._wander, "bar": self._bar, "glow": self._glow, "spores": self._spores}[kind](k, ink, strength, temper)

    def _grow(self, k: int, ink: RGB, strength: float, temper: Temper, bend: float | None = None, length: float = 1.0) -> None:
        """A tip moves on along a bent line; it turns away from the margin and a little towards the light above."""
        tip = self.tips[k]
        unsteady = 0.05 + 0.35 * (1 - temper.stability)
        turn = self.random.gauss(0, unsteady) if bend is None else bend
        heading, x, y, points = tip.heading, tip.x, tip.y, [(tip.x, tip.y)]
        for _ in range(4):
            heading += turn / 4 + 0.03 * math.sin(-math.pi / 2 - heading)
            edge = self._away(x, y, heading)
            heading += edge
            pace = length * (1.1 + 1.1 * temper.presence) * (0.55 + 0.45 * min(1.0, tip.width / 2))
            x, y = x + pace * math.cos(heading), y + pace * math.sin(heading)
            points.append((x, y))
        self._line(points, ink, tip.width, round(235 * strength))
        self.tips[k] = Tip(x, y, heading, max(0.7, tip.width * 0.975), tip.age + 1)
        self.nodes.append(self.tips[k])

    def _away(self, x: float, y: float, heading: float) -> float:
        """The turn that keeps a line inside the crown."""
        ahead_x, ahead_y = x + 14 * math.cos(heading), y + 14 * math.sin(heading)
        if MARGIN < ahead_x < SIZE - MARGIN and ahead_y < SIZE - MARGIN and not self._outside(ahead_x, ahead_y):
            return 0.0
        return 0.3 * math.sin(math.atan2(SIZE / 2 - y, SIZE / 2 - x) - heading)

    def _branch(self, k: int, ink: RGB, strength: float, temper: Temper) -> None:
        """A new shoot somewhere on the stems; where there are many, the oldest end stops growing."""
        node = self.nodes[self._free(self.nodes)]
        side = self.random.choice((-1, 1)) * self.random.uniform(0.45, 1.0)
        if len(self.tips) >= TIPS:
            self.tips.remove(max(self.tips, key=lambda t: t.age))
        self.tips.append(Tip(node.x, node.y, node.heading + side, max(0.7, node.width * 0.7)))
        self._grow(len(self.tips) - 1, ink, strength, temper, bend=-0.2 * side, length=1.4)

    def _leaf(self, k: int, ink: RGB, strength: float, temper: Temper) -> None:
        """A leaf: two arcs that meet, filled faintly."""
        tip = self.nodes[k]
        side = self.random.choice((-1, 1))
        heading, size = tip.heading + side * self.random.uniform(0.6, 1.2), 6 + 7 * temper.presence * self.random.uniform(0.6, 1.0)
        outline = []
        for sign in (1, -1):
            steps = range(9) if sign == 1 else range(8, -1, -1)
            for i in steps:
                along, across = size * i / 8, sign * 0.28 * size * math.sin(math.pi * i / 8)
                outline.append((tip.x + along * math.cos(heading) - across * math.sin(heading),
                                tip.y + along * math.sin(heading) + across * math.cos(heading)))
        self.pen.polygon(self._scaled(outline), fill=self._alpha(ink, 60 * strength))
        self._line(outline, ink, 0.7, round(190 * strength))
        self._line([(tip.x, tip.y), outline[8]], ink, 0.5, round(120 * strength))

    def _ring(self, k: int, ink: RGB, strength: float, temper: Temper) -> None:
        """Rings around a tip, further out the calmer the body is."""
        tip = self.nodes[k]
        radius = 3.0 + self.random.uniform(0, 5) + 6 * temper.stability * self.random.random()
        start, span = self.random.uniform(0, 360), self.random.uniform(120, 340)
        for n in range(2):
            r = radius + 2.6 * n
            box = self._scaled([(tip.x - r, tip.y - r), (tip.x + r, tip.y + r)])
            self.pen.arc([*box[0], *box[1]], start, start + span, fill=self._alpha(ink, (120 - 50 * n) * strength), width=FINE)
        self._mark(tip.x, tip.y)

    def _dots(self, k: int, ink: RGB, strength: float, temper: Temper) -> None:
        """Berries at a tip."""
        tip = self.nodes[k]
        for _ in range(self.random.randint(1, 3)):
            a, d = self.random.uniform(0, 2 * math.pi), self.random.uniform(2, 7)
            self._disc(tip.x + d * math.cos(a), tip.y + d * math.sin(a), self.random.uniform(0.8, 1.9), ink, 220 * strength)

    def _curl(self, k: int, ink: RGB, strength: float, temper: Temper) -> None:
        """A tendril that winds itself up beside the stem."""
        tip = self.nodes[k]
        side, heading = self.random.choice((-1, 1)), tip.heading
        x, y, points, pace = tip.x, tip.y, [(tip.x, tip.y)], (1.4 + 1.2 * temper.presence) * self.random.uniform(0.7, 1.2)
        for i in range(18):
            heading += side * (0.12 + 0.03 * i)
            pace *= 0.94
            x, y = x + pace * math.cos(heading), y + pace * math.sin(heading)
            points.append((x, y))
        self._line(points, ink, 0.8, round(190 * strength))

    def _wander(self, k: int, ink: RGB, strength: float, temper: Temper) -> None:
        """The tip looks around: a long, wavy step."""
        swing = self.random.choice((-1, 1)) * self.random.uniform(0.5, 1.0)
        self._grow(k, ink, strength, temper, bend=swing, length=1.2)
        self._grow(k, ink, strength, temper, bend=-1.6 * swing, length=1.2)

    def _bar(self, k: int, ink: RGB, strength: float, temper: Temper) -> None:
        """A short bar across the stem: a border, or a gate of two."""
        tip = self.nodes[k]
        across = tip.heading + math.pi / 2
        for n in range(self.random.randint(1, 2)):
            cx, cy = tip.x - 3 * n * math.cos(tip.heading), tip.y - 3 * n * math.sin(tip.heading)
            d = 3.5 + 2 * self.random.random()
            self._line([(cx - d * math.cos(across), cy - d * math.sin(across)), (cx + d * math.cos(across), cy + d * math.sin(across))],
                       ink, 1.0, round(210 * strength))

    def _glow(self, k: int, ink: RGB, strength: float, temper: Temper) -> None:
        """A soft light around a tip."""
        tip = self.nodes[k]
        radius = 7 + 9 * temper.warmth
        for n in range(6):
            self._disc(tip.x, tip.y, radius * (1 - n / 6), ink, 11 * strength, mark=False)
        self._mark(tip.x, tip.y)

    def _spores(self, k: int, ink: RGB, strength: float, temper: Temper) -> None:
        """What is let go drifts away from a tip, and fades."""
        tip = self.nodes[k]
        for _ in range(self.random.randint(3, 6)):
            d = self.random.expovariate(1 / 14)
            a = -math.pi / 2 + self.random.gauss(0, 0.9)
            self._disc(tip.x + d * math.cos(a), tip.y + d * math.sin(a), 0.6 + 0.5 * self.random.random(), ink,
                       200 * strength * math.exp(-d / 30))

    # -- the pen -----------------------------------------------------------------------------------------------------------

    def _scaled(self, points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * FINE, y * FINE) for x, y in points]

    def _alpha(self, ink: RGB, alpha: float) -> tuple[int, int, int, int]:
        return (*(round(v) for v in ink), max(0, min(255, round(alpha))))

    def _line(self, points: list[tuple[float, float]], ink: RGB, width: float, alpha: int) -> None:
        self.pen.line(self._scaled(points), fill=self._alpha(ink, alpha), width=max(1, round(width * FINE)), joint="curve")
        for x, y in points:
            self._mark(x, y)

    def _disc(self, x: float, y: float, radius: float, ink: RGB, alpha: float, mark: bool = True) -> None:
        r = radius * FINE
        self.pen.ellipse([x * FINE - r, y * FINE - r, x * FINE + r, y * FINE + r], fill=self._alpha(ink, alpha))
        if mark:
            self._mark(x, y)

    def _mark(self, x: float, y: float) -> None:
        if 0 <= x < SIZE and 0 <= y < SIZE:
            cell = int(x) // 8, int(y) // 8
            self.cells[cell] = self.cells.get(cell, 0) + 1
