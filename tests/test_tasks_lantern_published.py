"""The published data files give the published figures: to three decimals where three were published, else to all that were."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from scionwood.tasks.lantern.documents import Fields, documents
from scionwood.tasks.lantern.measures.text import measure_text
from scionwood.tasks.lantern.thermometer import Thermometer

DATA = Path(os.environ.get("SCION_LANTERN_DATA", Path(__file__).resolve().parent.parent.parent / "shared/data/lantern")) / "training"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the published Lantern data is not there ({DATA}); name its folder in SCION_LANTERN_DATA")

V1, V2, ALPACA = (f"ceremonial_dataset_{n}.jsonl" for n in ("v1", "v2", "alpaca_format"))
NOW, PILOT, EXPANSION = "ceremonial_dataset_lantern_v2_expanded.jsonl", "ceremonial_dataset_lantern_v2_expanded.pilot11.jsonl", "ceremonial_expansion_test.jsonl"
# file, key, texts, words (mean, least, most), E1 (mean, SD, least, most), zones
SHEET = [
    (V1, "response", 5, (206, 135, 256), (4.889, 0.151, 4.625, 5.083), {"LANTERN": 5}),
    (V2, "response", 20, (85, 37, 256), (3.892, 0.585, 3.442, 5.083), {"LANTERN": 5, "TRANSITION": 15}),
    (PILOT, "response", 11, (242.7, 135, 286), (4.896, 0.115, 4.625, 5.083), {"LANTERN": 11}),
    (NOW, "response", 14, (254, 135, 322), (4.880, 0.107, None, None), {"LANTERN": 14}),
    (ALPACA, "output", 25, (85, 58, 116), (4.006, 0.250, 3.18, 4.32), {"LANTERN": 16, "TRANSITION": 9}),
]
EXAMPLES = [(135, 4.625), (181, 4.870), (215, 4.968), (242, 4.901), (256, 5.083), (282, 4.967), (273, 4.776), (252, 4.976), (286, 4.893),
            (266, 4.846), (282, 4.953), (258, 4.792), (305, 4.833), (322, 4.836)]


def texts(file: str, key: str = "response") -> list[str]:
    return [json.loads(line)[key] for line in (DATA / file).read_text("utf-8").splitlines() if line.strip()]


def close(got: float, published: float | None) -> bool:
    """Equal to as many decimals as were published."""
    return published is None or round(got, len(str(published).partition(".")[2])) == published


@pytest.mark.parametrize("file, key, count, words, e1, zones", SHEET, ids=[row[0] for row in SHEET])
def test_the_table_of_data_files(file, key, count, words, e1, zones):
    meter = Thermometer()
    results = list(meter.measure(documents([str(DATA / file)], Fields(key))))
    over = meter.texts.over["E1"]
    lengths = [r.texts[0].measures["E1"].n for r in results]
    assert len(results) == over.documents == count
    assert close(sum(lengths) / count, words[0]) or round(sum(lengths) / count) == words[0]
    assert (min(lengths), max(lengths)) == words[1:]
    assert all(map(close, (over.mean, over.sd, over.least, over.most), e1)), over
    assert meter.texts.zones == zones == dict(Counter(r.texts[0].zone for r in results))


def test_every_example():
    got = [measure_text(t).measures["E1"] for t in texts(NOW)]
    assert [(m.n, round(m.value, 3)) for m in got] == EXAMPLES
    assert [round(measure_text(t).measures["E1"].value, 3) for t in texts(EXPANSION)] == [e for _, e in EXAMPLES[-3:]]


def test_the_truncated_pilot():
    for words, published in ((20, 2.87), (40, 3.53), (60, 3.84), (100, 4.27), (200, 4.76)):  # of the texts that are so long
        got = [measure_text(" ".join(t.split()[:words])).measures["E1"].value for t in texts(PILOT) if len(t.split()) >= words]
        assert round(sum(got) / len(got), 2) == published, words


def test_the_length_controlled_pilot():
    """Section 10 of the sheet: mean and, there, the sample's SD."""
    got = [measure_text(t).measures for t in texts(PILOT)]

    def mean_sd(name: str) -> tuple[float, float]:
        values = [m[name].value for m in got]
        mean = sum(values) / len(values)
        return mean, (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5

    h50, mtld, hdd = mean_sd("H50"), mean_sd("MTLD"), mean_sd("HD-D")
    assert round(h50[0], 3) == 3.665 and abs(h50[1] - 0.075) <= 0.0006  # .0745: half a unit of the last place
    assert (round(mtld[0]), round(mtld[1]), round(hdd[0], 3)) == (154, 45, 0.867)


def test_the_natural_experiment():
    """Six prompts stand short in one file and long in another: all change zone, and length alone decides it in the long ones."""
    short, long = ({r["prompt"]: r["response"] for r in map(json.loads, filter(str.strip, (DATA / f).read_text("utf-8").splitlines()))} for f in (V2, NOW))
    both = [p for p in short if p in long and short[p] != long[p]]
    assert len(both) == 6
    means = []
    for of, cut in ((short, None), (long, None), (short, 40), (long, 40)):
        got = [measure_text(" ".join(of[p].split()[:cut])) for p in both]
        means.append(round(sum(g.measures["E1"].value for g in got) / 6, 3))
        if cut is None:
            assert {g.zone for g in got} == ({"TRANSITION"} if of is short else {"LANTERN"})
    assert means[:2] == [3.558, 4.902] and means[2:] == [3.411, 3.473]
    assert all("length alone decides" in measure_text(long[p]).warning for p in both)
