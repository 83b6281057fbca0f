"""The plain text of ``scion run`` and ``scion compare``: it says what the figures say."""

import json
from dataclasses import asdict, replace

import pytest
from evidence_fakes import Digits, answers, system

from scionwood.errors import UserError
from scionwood.evidence.figures import compute, scored_rows, tidy
from scionwood.evidence.paired import mcnemar, paired_bootstrap
from scionwood.evidence.pairs import compare_rows, table
from scionwood.evidence.summary import aligned, summary
from scionwood.files import write_json

TASK = Digits()
CASES = TASK.cases("test")


def most(i):
    return i % 5 > 0


def half(i):
    return i % 4 < 2


def rows(right):
    return scored_rows(TASK, CASES, answers(CASES, right))


def line_of(text, start):
    return next(line for line in text.splitlines() if line.startswith(start)).split()


# -- the end of a run -----------------------------------------------------------------------------------------------------


def written(tmp_path, *adapters):
    figures = compute(TASK, CASES, [
        system("base", "base", answers(CASES, lambda i: i % 8 == 0)),
        system("majority", "rival", answers(CASES, lambda i: i % 3 == 0)),
        system("nearest", "rival", answers(CASES, half)),
        system("shuffled", "control", answers(CASES, lambda i: i % 3 == 1)),
        *adapters,
    ])
    write_json(tmp_path / "figures.json", figures)
    return figures, summary(tmp_path / "figures.json")


def test_summary(tmp_path):
    figures, text = written(tmp_path, system("adapter", "adapter", answers(CASES, most)))
    against = {c["against"]: c["primary"] for c in figures["comparisons"]}
    assert text.startswith("digits: 80 test cases from 20 sources; parity recall, higher is better\n")
    for name in ("base", "nearest"):
        entry, line = against[name], line_of(text, f"adapter against {name}")
        assert line[3] == f"{entry['difference']:+.3f}" and line[4:7:2] == [f"{entry[k]:+.3f}" for k in ("low", "high")]
        assert line[8] == entry["verdict"] == "better" and line[-1] == f"{entry['detectable']:.3f}"
    assert "against majority" not in text, "only the strongest rival is told"
    ranking = text.split("\n\n")[2].splitlines()
    assert [line.split()[0] for line in ranking] == ["system", "adapter", "nearest", "shuffled", "majority", "base"]
    assert text.endswith(f"control shuffled: {figures['controls'][0]['verdict']}")
    assert text.isascii()


def test_summary_of_several_seeds(tmp_path):
    seeds = [system("adapter", "adapter", answers(CASES, right), seed) for seed, right in enumerate([most, half])]
    figures, text = written(tmp_path, *seeds)
    over = figures["systems"]["adapter"]["over_seeds"]["parity recall"]
    assert line_of(text, "adapter  ")[2:] == f"{over['mean']:.3f} {over['min']:.3f} to {over['max']:.3f} over 2 seeds".split()


def test_summary_without_opponents_or_sources(tmp_path):
    few = [replace(c, source="one") for c in CASES]
    write_json(tmp_path / "figures.json", compute(TASK, few, [system("adapter", "adapter", answers(few, most))]))
    text = summary(tmp_path / "figures.json")
    assert "against" not in text and line_of(text, "adapter")[-1] == "-"


def test_summary_needs_a_file(tmp_path):
    with pytest.raises(UserError, match="figures.json: no such file"):
        summary(tmp_path / "figures.json")


def test_columns_of_numbers_stand_to_the_right():
    assert aligned([["name", "n"], ["a", "10"], ["bcdef", "9"], ["c", "\u22121"]]) == "name    n\na      10\nbcdef   9\nc      -1"


# -- two systems ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared():
    return compare_rows(TASK, rows(most), rows(half))


def test_pairs_are_json(compared):
    assert json.loads(json.dumps(compared)) == compared
    assert (compared["cases"], compared["sources"], compared["primary"]) == (80, 20, "parity recall")


def test_metrics_are_bootstrapped_in_pairs(compared):
    for metric in TASK.metrics():
        test = tidy(asdict(paired_bootstrap(metric, rows(half), rows(most))))
        assert test.items() <= compared["metrics"][metric.name].items()
    assert compared["metrics"]["accuracy"]["a"] == .8 and compared["metrics"]["accuracy"]["b"] == .5
    assert compared["metrics"]["nothing"]["verdict"] == "cannot tell"


def test_fewer_mistakes_are_better(compared):
    mistakes = compared["metrics"]["mistakes"]
    assert mistakes["difference"] < 0 and mistakes["verdict"] == "better"


def test_holm_leaves_the_primary_metric_alone(compared):
    primary, other = compared["metrics"]["parity recall"], compared["metrics"]["accuracy"]
    assert primary["p_holm"] == primary["p"] and other["p_holm"] == pytest.approx(3 * other["p"], rel=1e-4)


def test_jobs_are_tested_by_mcnemar(compared):
    odd = [i for i in range(80) if i % 2]
    wanted = mcnemar([half(i) for i in odd], [most(i) for i in odd])
    parity = compared["jobs"]["parity"]
    assert (parity["n"], parity["gains"], parity["losses"]) == (40, wanted.gains, wanted.losses)
    assert parity["p"] == pytest.approx(wanted.p, rel=1e-4)
    assert list(compared["jobs"]) == ["digit", "parity"]


def test_the_other_way_round(compared):
    turned = compare_rows(TASK, rows(half), rows(most))
    for name, entry in compared["metrics"].items():
        other = turned["metrics"][name]
        assert (other["a"], other["b"], other["p"]) == (entry["b"], entry["a"], entry["p"])
        assert {entry["verdict"], other["verdict"]} in ({"better", "worse"}, {"cannot tell"})


def test_rows_are_paired_by_case_whatever_their_order(compared):
    assert compare_rows(TASK, rows(most), rows(half)[::-1]) == compared


@pytest.mark.parametrize("other, message", [
    (rows(half)[:-1], "case 'c79' is missing from the second"),
    ([replace(r, case=replace(r.case, reference="7")) for r in rows(half)], "case 'c0' is another in the second"),
])
def test_different_cases_are_refused(other, message):
    with pytest.raises(UserError, match=message):
        compare_rows(TASK, rows(most), other)
    with pytest.raises(UserError, match="same cases"):
        compare_rows(TASK, other, rows(half))


def test_table(compared):
    text = table(compared, "one:adapter-0", "one:nearest")
    assert "a: one:adapter-0\nb: one:nearest\n" in text
    entry, line = compared["metrics"]["parity recall"], line_of(text, "parity recall (primary)")
    assert line[3:7] == ["higher", f"{entry['a']:.3f}", f"{entry['b']:.3f}", f"{entry['difference']:+.3f}"]
    parity = compared["jobs"]["parity"]
    assert line_of(text, "parity  ")[3:9] == ["{gains}".format(**parity), "of", "40", "{losses}".format(**parity), "of", "40"]
    assert text.isascii()
