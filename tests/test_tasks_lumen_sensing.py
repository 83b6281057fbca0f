"""Sensors through their real drivers, against chips emulated register by register: worked examples, faults, hangs, returns."""

import math
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionwood.tasks.lumen.sensing import chips
from scionwood.tasks.lumen.sensing.guard import Guarded, Helper
from scionwood.tasks.lumen.sensing.host import Rates, disk_space, memory, processor
from scionwood.tasks.lumen.sensing.panel import Panel
from scionwood.tasks.lumen.sensing.readings import FIELDS, reading
from scionwood.tasks.lumen.sensing.settings import Sensing

for module in ("adafruit_bme280", "adafruit_bmp280", "adafruit_ahtx0", "adafruit_veml7700"):
    pytest.importorskip(module, reason="the drivers are in the extra 'device'")

from lumen_chips import Aht20, Bme280, Bmp280, Bus, Veml7700, bitwise_crc, bosch_humidity, bosch_temperature


def whole_bus():
    return Bus(x77=Bme280(), x38=Aht20(23.5, 41.0), x10=Veml7700(1000))


def panel(bus, **table):
    """A panel whose clock is moved by hand; ``bus`` may be what opens it."""
    p = Panel(Sensing(**table), bus=lambda: bus() if callable(bus) else bus, now=lambda: 1000.0 + p.at, clock=lambda: p.at)
    p.at = 0.0
    return p


def after(p, seconds):
    p.at += seconds
    return p.read()


# -- the chips, by their data sheets ---------------------------------------------------------------------------------------


def test_the_pressure_of_the_data_sheets_worked_example():
    read = chips.barometer(lambda: Bus(x76=Bmp280()))
    assert read() == {"pressure_hpa": pytest.approx(1006.5327, abs=0.005)}  # 100653.27 Pa in double precision


def test_the_temperature_of_the_data_sheets_worked_example():
    read = chips.barometer(lambda: Bus(x77=Bme280()))
    assert read()["ambient_temp_c"] == pytest.approx(25.08, abs=0.005)
    assert bosch_temperature(519888, Bme280.T) == (2508, 128422)


@settings(max_examples=40, deadline=None)
@given(adc_t=st.integers(400_000, 600_000), adc_h=st.integers(15_000, 45_000), h4=st.integers(-300, 400), h5=st.integers(-300, 400))
def test_the_driver_compensates_as_the_data_sheets_integers_do(adc_t, adc_h, h4, h5):
    chip = Bme280(adc_t=adc_t, adc_h=adc_h, polls=0)
    chip.H = (75, 370, 0, h4, h5, 30)
    chip.power_on()
    values = chips.barometer(lambda: Bus(x77=chip))()
    celsius, t_fine = bosch_temperature(adc_t, chip.T)
    assert values["ambient_temp_c"] == pytest.approx(celsius / 100, abs=0.02)
    assert values["humidity_pct"] == pytest.approx(bosch_humidity(adc_h, chip.H, t_fine) / 1024, abs=0.1)


def test_a_measurement_is_waited_for_and_made_each_time():
    chip = Bme280(polls=3)
    read = chips.barometer(lambda: Bus(x77=chip))
    read()
    first = chip.conversions
    chip.adc_t += 20_000
    assert read()["ambient_temp_c"] > 30 and chip.conversions > first


@settings(max_examples=15, deadline=None)
@given(st.floats(-40, 85), st.floats(0, 99.9))
def test_the_aht20_gives_what_was_put_in(temperature, humidity):
    values = chips.aht20(lambda: Bus(x38=Aht20(temperature, humidity, polls=0)))()
    assert values == {"ambient_temp_c": pytest.approx(temperature, abs=2e-4), "humidity_pct": pytest.approx(humidity, abs=1e-4)}


def test_the_checksum_is_the_published_one():
    assert chips.crc8(b"\xbe\xef") == 0x92  # the example of the makers that use this polynomial


@given(st.binary(max_size=8))
def test_the_checksum_is_the_remainder_of_the_division(data):
    assert chips.crc8(data) == bitwise_crc(data)


def test_the_light_is_counts_times_the_data_sheets_resolution():
    p = panel(Bus(x10=Veml7700(1000)))
    p.read()
    time.sleep(0.3)
    assert after(p, 2)["light_lux"] == pytest.approx(33.6)  # 0.0336 lux a count at gain 1 and 200 ms


def test_light_is_a_moving_average():
    chip = Veml7700(1000)
    read = chips.veml7700(lambda: Bus(x10=chip), new=0.2)
    time.sleep(0.3)
    before = read()["light_lux"]
    chip.counts = 2000
    assert read()["light_lux"] == pytest.approx(before * 1.2)


# -- faults ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bit", range(40))
def test_any_flipped_bit_of_the_aht20_is_caught(bit):
    bus = Bus(x38=Aht20(polls=0))
    read = chips.aht20(lambda: bus)
    bus.disturb = lambda address, data: data if len(data) < 7 else _flipped(data, 8 + bit)
    with pytest.raises(OSError, match="checksum"):
        read()


def _flipped(data, bit):
    return (int.from_bytes(data, "big") ^ 1 << 8 * len(data) - 1 - bit).to_bytes(len(data), "big")


def test_a_disturbance_of_the_drivers_own_read_is_caught_too():
    bus = Bus(x38=Aht20(polls=0))
    read = chips.aht20(lambda: bus)
    bus.disturb = lambda address, data: _flipped(data, 20) if len(data) == 6 else data
    with pytest.raises(OSError, match="differ"):
        read()


def test_all_sensors_make_one_reading_and_the_better_one_counts():
    p = panel(whole_bus())
    p.read()
    time.sleep(0.3)
    r = after(p, 2)
    assert r["ambient_temp_c"] == pytest.approx(23.5, abs=0.01)  # of the AHT20, not of the BME280
    assert r["pressure_hpa"] == pytest.approx(1006.5, abs=0.1) and r["light_lux"] == pytest.approx(33.6) and r["memory_pct"] > 0
    assert set(r.values) == set(FIELDS) and set(r.reasons) == {n for n, v in r.values.items() if v is None}


def test_a_sensor_that_is_pulled_out_is_missed_and_comes_back():
    bus, p = whole_bus(), None
    p = panel(bus, failures=2, first_wait_s=10)
    p.read()
    unplugged = bus.chips.pop(0x38)
    r = after(p, 2)
    assert r["ambient_temp_c"] == pytest.approx(25.08, abs=0.01)  # the BME280 steps in
    bme = bus.chips.pop(0x77)
    r = after(p, 2)
    assert r["humidity_pct"] is None and "AHT20" in r.reasons["humidity_pct"] and "BME280" in r.reasons["humidity_pct"]
    assert r["memory_pct"] is not None
    after(p, 2)
    unplugged.power_on()
    bus.chips |= {0x38: unplugged, 0x77: bme}
    assert after(p, 1)["humidity_pct"] is None  # not looked for yet
    assert after(p, 15)["humidity_pct"] == pytest.approx(41.0, abs=0.01)


def test_waits_double_up_to_the_longest_and_start_anew_after_a_success():
    there, looks = [False], []

    def open():
        looks.append(now)
        if not there[0]:
            raise ValueError("No I2C device at address: 0x38")
        return lambda: {"x": 1.0}

    source = Guarded("chip", ("x",), open, failures=1, first_wait=10, longest_wait=60)
    for now in range(0, 300):
        source.ask(now)
    assert looks == [0, 10, 30, 70, 130, 190, 250]
    there[0] = True
    now = 310
    assert source.ask(now) == ({"x": 1.0}, {})
    source._read = lambda: 1 / 0
    now = 320
    assert source.ask(now)[1] == {"x": "chip: division by zero"} and source.next_look == 330


def test_one_disturbed_transfer_costs_one_value_and_no_new_set_up():
    bus = Bus(x38=Aht20(polls=0))
    p = panel(bus, failures=3)
    assert p.read()["humidity_pct"] == 50
    bus.failing = 1
    assert "Input/output error" in after(p, 2).reasons["humidity_pct"]
    assert after(p, 2)["humidity_pct"] == 50


def test_a_light_sensor_that_lost_its_power_for_a_moment_is_set_up_anew():
    chip = Veml7700(1000)
    p = panel(Bus(x10=chip), failures=1, first_wait_s=10)
    p.read()
    time.sleep(0.3)
    assert after(p, 2)["light_lux"]
    chip.power_on()  # now it is shut down: it would tell its last value for ever
    assert "lost its settings" in after(p, 2).reasons["light_lux"]
    after(p, 11)
    time.sleep(0.3)
    assert after(p, 2)["light_lux"] == pytest.approx(33.6)


@pytest.mark.parametrize(("times", "why"), [(1, "differ"), (99, "empty")])
def test_calibration_words_that_were_misread_do_not_become_readings(times, why):
    bus, left = Bus(x77=Bme280(polls=0)), [times]

    def disturb(address, data):
        if len(data) != 24 or not left[0]:
            return data
        left[0] -= 1
        return b"\xff" * len(data)

    bus.disturb = disturb
    p = panel(bus, aht20=False, first_wait_s=5)
    r = p.read()
    assert r["ambient_temp_c"] is None and r["pressure_hpa"] is None and why in r.reasons["pressure_hpa"]
    bus.disturb = None
    assert after(p, 6)["pressure_hpa"] == pytest.approx(1006.5, abs=0.1)


def test_a_value_that_no_such_sensor_can_measure_is_dropped():
    r = panel(Bus(x77=Bme280(adc_t=0, polls=0)), aht20=False).read()  # far below -40 degrees
    assert r["ambient_temp_c"] is None and r.reasons["ambient_temp_c"] == "BME280/BMP280: outside of -40 to 85"


def test_a_chip_that_stays_busy_for_ever_stops_neither_the_loop_nor_the_host():
    chip = Bme280(polls=None)
    p = panel(Bus(x77=chip), patience_s=0.15, aht20=False, veml7700=False)
    try:
        r = p.read()
        assert "no answer within 0.15 s" in r.reasons["pressure_hpa"] and r["memory_pct"] is not None
        assert "not come back" in after(p, 2).reasons["pressure_hpa"]
    finally:
        chip.polls = chip.left = 0  # the chip wakes up
    time.sleep(0.05)
    assert after(p, 2)["pressure_hpa"] == pytest.approx(1006.5, abs=0.1)


def test_a_bus_that_cannot_be_opened_is_a_reason():
    def none():
        raise RuntimeError("I2C Bus #1 not found, check if enabled in config!")

    r = panel(none).read()
    assert r["pressure_hpa"] is None and "Bus #1 not found" in r.reasons["light_lux"] and r["disk_pct"] is not None


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(["x77", "x38", "x10", "noise", "error", "none"]), min_size=1, max_size=6))
def test_whatever_happens_on_the_bus_a_reading_comes(events):
    all_chips = {0x77: Bme280(polls=0), 0x38: Aht20(polls=0), 0x10: Veml7700()}
    bus = Bus()
    bus.chips = dict(all_chips)
    p = panel(bus, host=False, failures=1, first_wait_s=1, longest_wait_s=2)
    for event in events:
        bus.disturb = None
        if event[0] == "x":
            address = int(event[1:], 16)
            bus.chips.pop(address, None) or bus.chips.update({address: all_chips[address]})
        elif event == "error":
            bus.failing = 3
        elif event == "noise":
            bus.disturb = lambda address, data: bytes(b ^ 0x5A for b in data) if len(data) > 1 else data
        r = after(p, 2)
        assert all(math.isfinite(v) for v in r.values.values() if v is not None)
        assert all(low <= r[n] <= high for n, (low, high) in chips.LIMITS.items() if r[n] is not None)
        assert set(r.reasons) == {n for n, v in r.values.items() if v is None} and not bus.locked
    p.close()


def test_without_a_board_there_is_a_reason_and_no_exception():
    r = Panel(Sensing(host=False)).read()
    assert all(v is None for v in r.values.values()) and "switched off" in r.reasons["cpu_pct"]
    assert r.reasons["light_lux"]


# -- the host --------------------------------------------------------------------------------------------------------------


def test_rates_are_differences_over_time_and_a_counter_that_went_back_has_none():
    rates = Rates()
    assert rates.next(0, {"a": 100, "b": 5}) == {"a": None, "b": None}
    assert rates.next(2, {"a": 300, "b": 5}) == {"a": 100.0, "b": 0.0}
    assert rates.next(2.01, {"a": 900, "b": 5}) == {"a": None, "b": None}  # too soon to say
    assert rates.next(4, {"a": 200, "b": 25, "new": 1}) == {"a": None, "b": 10.0, "new": None}
    assert rates.next(3, {"a": 500}) == {"a": None}  # the clock was set back
    assert rates.next(5, {"a": 700}) == {"a": 100.0}


def test_the_host_is_really_asked():
    assert 0 < memory()()["memory_pct"] < 100 and 0 < disk_space("/")()["disk_pct"] <= 100
    read = processor(time.monotonic)
    assert read() == {"cpu_pct": None}
    end = time.monotonic() + 0.3
    while time.monotonic() < end:  # work, so that there is a share to see
        math.sqrt(2)
    assert 0 < read()["cpu_pct"] <= 100


def test_a_helper_ends_and_gives_back_what_was_raised():
    helper = Helper("test")
    assert helper.call(lambda: 3, 5) == 3
    with pytest.raises(ZeroDivisionError):
        helper.call(lambda: 1 / 0, 5)
    helper.close()
    for _ in range(100):
        if not any(t.name == "test" for t in threading.enumerate()):
            break
        time.sleep(0.02)
    assert not any(t.name == "test" for t in threading.enumerate())


def test_a_reading_says_why_of_everything_that_is_missing():
    r = reading(5.0, {"cpu_pct": 3.0}, {"light_lux": "dark"})
    assert r["cpu_pct"] == 3.0 and r.reasons["light_lux"] == "dark" and r.reasons["disk_pct"] == "not recorded"
    assert "cpu_pct" not in r.reasons
