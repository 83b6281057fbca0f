"""E, I, S and V by the published formulas: by hand, at their edges, and never out of bounds."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionwood.errors import UserError
from scionwood.tasks.lumen.sensing.readings import FIELDS, reading
from scionwood.tasks.lumen.settings import body_of
from scionwood.tasks.lumen.state.eisv import Feeling
from scionwood.tasks.lumen.state.settings import State

FULL = {"cpu_temp_c": 60.0, "ambient_temp_c": 25.0, "humidity_pct": 54.0, "pressure_hpa": 1003.25, "light_lux": 100.0, "cpu_pct": 30.0,
        "memory_pct": 40.0, "disk_pct": 20.0, "context_switches_s": 2500.0, "interrupts_s": 1000.0, "disk_busy_ms_s": 200.0,
        "disk_bytes_s": 1e6, "net_bytes_s": 51200.0}
UNKNOWN = State(prediction="unknown")


def felt(values, table=UNKNOWN, times=1):
    feeling = Feeling(table)
    for i in range(times):
        f = feeling.next(reading(2.0 * i, values))
    return f


def test_the_second_state_by_hand():
    f = felt(FULL, times=2)
    gamma = 0.2 * (0.6 * 2500 / 5000 + 0.4 * 1000 / 5000)  # the first call is 0, then a fifth of the new value
    theta_now = 0.7 * max(200 / 2000, 51200 / 512000) + 0.3 * min(0.1, 0.1)
    theta = 0.3 * theta_now + 0.7 * 0.3 * theta_now
    assert f.bands == pytest.approx((0.7, 0.3, gamma, theta, 1.0))
    assert f.warmth == f.E == round(0.35 * 0.5 + 0.45 * 0.5 + 0.2 * (0.3 + gamma) / 2, 3)
    assert f.clarity == f.I == round((0.5 * 0.5 + 0.3 * 0.7 + 0.15 * 1 + 0.15 * 2 / 3) / 1.10, 3)
    instability = 0.25 * 0.2 + 0.3 * 0.4 + 0.2 * 0 + 0.15 * 0.5 + 0.1 * (1 - (theta + 1) / 2)
    assert f.stability == round(1 - instability, 3) and f.S == pytest.approx(1 - f.stability)
    presence = 1 - (0.25 * 0.2 + 0.3 * 0.4 + 0.25 * 0.3 + 0.2 * gamma)
    assert f.presence == round(presence, 3) and f.V == pytest.approx(0.3 * (1 - f.presence))


def test_the_card_says_otherwise_of_entropy_and_void():
    card = felt(FULL, State(preset="card", prediction="unknown"), times=2)
    code = felt(FULL, times=2)
    assert (card.E, card.I) == (code.E, code.I)
    assert "neural" not in card.terms["stability"] and "gamma" not in card.terms["presence"]
    assert card.V == pytest.approx(round((0.25 * 0.2 + 0.3 * 0.4 + 0.25 * 0.3) / 0.8, 3))
    assert card.S == pytest.approx(round((0.05 + 0.12 + 0.075) / 0.9, 3))
    assert State(preset="card").every_s == 30 and State().every_s == 2


def test_missing_terms_are_dropped_and_the_rest_weighs_more():
    f = felt({"cpu_pct": 50.0, "memory_pct": 40.0, "disk_pct": 20.0})
    assert set(f.terms["warmth"]) == {"neural"} and f.E == 0.25  # beta 0.5, gamma 0 at first
    assert f.terms["stability"]["missing"] == (1.0, 0.2) and f.terms["clarity"]["coverage"] == (0.0, 0.15)
    assert f.S == pytest.approx(round((0.3 * 0.4 + 0.2 * 1 + 0.1 * (1 - 1 / 2)) / 0.6, 3))  # delta is 1 while its history is short


def test_with_nothing_at_all_every_scalar_is_still_defined():
    f = felt({}, times=3)
    assert f.E == 0 and f.bands.alpha == 1 and f.V == 0 and 0 < f.S < 1


def test_without_counters_gamma_is_half_of_beta_and_theta_falls_back_on_bytes():
    values = {k: v for k, v in FULL.items() if k not in ("context_switches_s", "interrupts_s", "disk_busy_ms_s", "net_bytes_s")}
    f = felt({**values, "disk_bytes_s": 10 * 1024.0**2}, times=2)
    assert f.bands.gamma == 0.15 and f.bands.theta == pytest.approx(0.7 * (0.3 + 0.7 * 0.3))


def test_delta_looks_back_over_the_history():
    feeling = Feeling(State(history=3))
    cpu, heat = [10.0, 30.0, 10.0, 10.0, 10.0], [50.0, 50.0, 50.0, 50.0, 56.0]
    deltas = [feeling.next(reading(i, {"cpu_pct": c, "cpu_temp_c": h})).bands.delta for i, (c, h) in enumerate(zip(cpu, heat))]
    assert deltas == pytest.approx([1.0, 0.65, 0.65, 0.65, 0.7 + 0.3 * (1 - 4 / 10)])


def test_the_prediction_is_the_measured_error_of_saying_that_nothing_changes():
    feeling = Feeling(State())
    first = feeling.next(reading(0, FULL))
    second = feeling.next(reading(2, {**FULL, "ambient_temp_c": 27.0}))
    third = feeling.next(reading(4, {**FULL, "ambient_temp_c": 27.0}))
    assert first.terms["clarity"]["prediction"][0] == second.terms["clarity"]["prediction"][0] == 0.5
    error = sum(abs(getattr(second, s) - getattr(first, s)) for s in ("warmth", "stability", "presence")) / 3
    assert third.terms["clarity"]["prediction"][0] == pytest.approx(1 - error)


def test_the_pressure_of_the_place_is_a_setting():
    high_up = {**FULL, "pressure_hpa": 850.0}
    at_sea, there = (felt(high_up, State(prediction="unknown", scales={"pressure_hpa": p})) for p in (1013.25, 850.0))
    assert at_sea.terms["stability"]["pressure"][0] == 1 and there.terms["stability"]["pressure"][0] == 0 and there.S < at_sea.S


def test_light_is_logarithmic_and_dark_is_nothing():
    light = {lux: felt({**FULL, "light_lux": lux}).terms["clarity"]["light"][0] for lux in (0.0, 1.0, 10.0, 1000.0, 1e5)}
    assert light == {0.0: 0, 1.0: 0, 10.0: pytest.approx(1 / 3), 1000.0: pytest.approx(1), 1e5: 1}


VALUES = st.fixed_dictionaries({name: st.none() | st.floats(-1e9, 1e9) for name in FIELDS})


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=6), st.sampled_from(["published", "card"]))
def test_whatever_is_read_the_state_stays_in_bounds_and_is_explained(rows, preset):
    feeling = Feeling(State(preset=preset))
    for i, values in enumerate(rows):
        f = feeling.next(reading(i, values))
        assert all(0 <= x <= 1 for x in f[1:9]) and all(0 <= x <= 1 for x in f.bands)
        assert preset == "card" or f.V <= 0.3 + 1e-9
        for scalar, terms in f.terms.items():
            whole = sum(w for _, w in terms.values())
            mean = sum(v * w for v, w in terms.values()) / whole if whole else 0.5
            assert getattr(f, scalar) == pytest.approx(mean if scalar in ("warmth", "clarity") else 1 - mean, abs=6e-4)
        assert f.explained()["bands"]["alpha"] == f.bands.alpha


def test_weights_come_from_the_recipe_and_from_set(tmp_path):
    recipe = tmp_path / "body.toml"
    recipe.write_text('[state]\npreset = "card"\n[state.presence]\ndisk = 1.0\n[state.scales]\npressure_hpa = 955\n')
    body = body_of(recipe, ["state.presence.memory=0", "state.every_s=5"])
    assert body.state.presence.model_dump() == {"disk": 1.0, "memory": 0.0, "cpu": 0.25, "gamma": 0.0}
    assert body.state.every_s == 5 and body.state.void_scale == 1 and body.state.scales.pressure_hpa == 955


@pytest.mark.parametrize(("sets", "said"), [
    ("state.presence.disc=1", "did you mean 'disk'"), ("state.preset=cards", "'published' or 'card'"),
    ("state.scales.pressure_hpa=5000", "less than 1100"), ("state.scales.ambient_low_c=50", "below its high bound"),
    ("state.warmth=3", "state.warmth"),
])
def test_a_wrong_key_or_value_is_one_line(sets, said):
    with pytest.raises(UserError, match=said) as e:
        body_of(None, [sets])
    assert "\n" not in str(e.value)


def test_the_recipe_in_the_docs_is_one(tmp_path):
    docs = (Path(__file__).resolve().parents[1] / "docs" / "lumen.md").read_text("utf-8")
    (tmp_path / "body.toml").write_text(re.search(r"```toml\n(.*?)```", docs, re.S)[1])
    body = body_of(tmp_path / "body.toml")
    assert body.state.scales.pressure_hpa == 955 and not body.sensing.veml7700
