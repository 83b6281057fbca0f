"""Rows half of which come from a recording: its windows, told apart by the published rules, beside published synthetic ones.

A recording splits by time, in blocks of minutes, so that no window of one split shares a state with a window of another. A body at rest
has few shapes: recorded rows are taken evenly from the shapes that occur, as far as these reach, and synthetic ones fill the rest.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from pathlib import Path

from scionwood.errors import UserError
from scionwood.task import Case
from scionwood.tasks.lumen import synthetic
from scionwood.tasks.lumen.dataset import FURTHER, case_of
from scionwood.tasks.lumen.generator import Generator
from scionwood.tasks.lumen.grammar import Notation
from scionwood.tasks.lumen.rows import row_of
from scionwood.tasks.lumen.shapes import SHAPES, Point
from scionwood.tasks.lumen.trajectories.published import classify
from scionwood.tasks.lumen.trajectories.windows import POINTS, STEP, merged, segments, windows

BLOCK = 300.0  # seconds: what is one source
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}  # of the blocks, in the order of time
ROWS = {"train": 320, "dev": 40, "test": 60}  # of each shape, on average


@cache
def recorded_states(path: Path) -> tuple[Point, ...]:
    """The states of a recording, felt by the published formulas."""
    from scionwood.tasks.lumen.state.eisv import Feeling
    from scionwood.tasks.lumen.store.recordings import read_recording

    feeling = Feeling()
    return tuple(feeling.next(r).point() for r in read_recording(path))


def blocks_of(points: tuple[Point, ...]) -> dict[str, list[list[Point]]]:
    """The blocks of each split, in the order of time. Raises UserError where there are fewer than ten."""
    blocks: dict[int, list[Point]] = defaultdict(list)
    for p in points:
        blocks[int((p.t - points[0].t) // BLOCK)].append(p)
    usable = [b for _, b in sorted(blocks.items()) if any(s[-1].t - s[0].t >= STEP * (POINTS - 1) for s in segments(merged(b)))]
    if len(usable) < 10:
        raise UserError(f"the recording has {len(usable)} blocks of {BLOCK / 60:g} minutes, 10 are needed to split it by time; "
                        "record for longer")
    train, dev = (round(len(usable) * s) for s in (SHARES["train"], SHARES["dev"]))
    return {"train": usable[:train], "dev": usable[train:train + dev], "test": usable[train + dev:]}


def evenly(wanted: int, available: dict[str, int]) -> dict[str, int]:
    """``wanted`` things dealt out over kinds, as evenly as what is available of each allows."""
    taken = dict.fromkeys(available, 0)
    while wanted > 0 and (open := [k for k in available if taken[k] < available[k]]):
        lowest = min(taken[k] for k in open)
        for k in [k for k in open if taken[k] == lowest][:wanted]:
            taken[k] += 1
            wanted -= 1
    return taken


def blended_cases(split: str, per_shape: int | None, notation: Notation, recording: Path) -> list[Case]:
    """``per_shape`` rows of every shape on average, half of all from the recording where it has as many windows."""
    rows = (per_shape or ROWS[split]) * len(SHAPES)
    recorded = recorded_cases(split, rows // 2, notation, recording)
    counts = {s: sum(c.reference["shape"] == s for c in recorded) for s in SHAPES}
    return recorded + synthetic_fill(split, rows - len(recorded), counts, notation)


def recorded_cases(split: str, wanted: int, notation: Notation, recording: Path) -> list[Case]:
    """At most ``wanted`` windows of the recording, evenly over shapes and over time; labels are draws of the rules, as published."""
    blocks = blocks_of(recorded_states(recording))[split]
    states = sum(map(len, blocks))
    found: dict[str, list[tuple[str, list[Point]]]] = defaultdict(list)
    for b, block in enumerate(blocks):
        for window in windows(block, stride=max(1, states // (2 * wanted))):
            found[classify(window)].append((f"{split}-block-{b}", window))
    cases = []
    for shape, n in evenly(wanted, {s: len(f) for s, f in sorted(found.items())}).items():
        have = found[shape]
        for i in range(n):
            source, window = have[i * len(have) // n]
            name = f"recorded-{split}-{shape}-{i}"
            tokens = Generator(name).generate(shape)
            cases.append(case_of(name, source, row_of(shape, window, tokens), notation))
    return cases


def synthetic_fill(split: str, wanted: int, counts: dict[str, int], notation: Notation) -> list[Case]:
    """``wanted`` synthetic rows that bring the shapes as close to equal as they can."""
    after = dict(counts)
    for _ in range(wanted):
        after[min(SHAPES, key=after.__getitem__)] += 1
    out = []
    for shape in SHAPES:
        indices = [i for s, i in synthetic.splits()[split] if s == shape]
        n = after[shape] - counts[shape]
        for i in (indices + [FURTHER[split] + k for k in range(max(0, n - len(indices)))])[:n]:
            out.append(case_of(f"{shape}-{i}", f"{shape}-{i}", synthetic.row(shape, i), notation))
    return out
