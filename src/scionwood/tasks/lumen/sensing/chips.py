"""The sensors on the I2C bus, through their maintained drivers: BME280 or BMP280, AHT20, VEML7700.

Each function takes a way to get a bus (an object with the interface of ``busio.I2C``), sets its sensor up and returns what reads it.
It raises whatever driver and bus raise; ``guard`` makes reasons of that.
"""

from __future__ import annotations

import time
from typing import Callable

from scionwood.tasks.lumen.sensing.guard import Read

# What the chips can measure, by their data sheets.
LIMITS = {"ambient_temp_c": (-40.0, 85.0), "humidity_pct": (0.0, 100.0), "pressure_hpa": (300.0, 1100.0), "light_lux": (0.0, 200_000.0)}
BAROMETERS = (0x77, 0x76)  # the board's address, and the one with SDO low


def board_bus():
    """The I2C bus of this board. A new object each time, so that a bus that went away and came back is opened anew."""
    try:
        import board
    except ModuleNotFoundError as e:
        raise RuntimeError(f"no driver ({e.name} is not installed; pip install 'scionwood[device]')") from None
    if not hasattr(board, "I2C"):
        raise RuntimeError("this machine has no I2C bus that is known")
    return board.I2C()


def barometer(bus: Callable) -> Read:
    """Air pressure from a BME280 or BMP280, told apart by the chip's id. The BME280 gives temperature and humidity too.

    The BMP280's temperature is left out: it sits on the board and measures the board.
    """
    from adafruit_bme280.basic import Adafruit_BME280_I2C
    from adafruit_bmp280 import Adafruit_BMP280_I2C

    i2c, said = bus(), []
    for address in BAROMETERS:
        for driver in (Adafruit_BME280_I2C, Adafruit_BMP280_I2C):
            try:
                chip = driver(i2c, address)
            except (ValueError, RuntimeError, OSError) as e:
                said.append(str(e))
                continue
            _check_calibration(chip)
            if driver is Adafruit_BMP280_I2C:
                return lambda: {"pressure_hpa": chip.pressure}
            return lambda: {"ambient_temp_c": chip.temperature, "humidity_pct": chip.humidity, "pressure_hpa": chip.pressure}
    raise RuntimeError("; ".join(dict.fromkeys(said)))


def _check_calibration(chip) -> None:
    """Read the calibration words once more and raise OSError where they differ or were never written: the chip has no checksum, and
    wrong words give wrong values that look right, for as long as the driver lives."""

    def words() -> list:
        return [list(getattr(chip, name, ())) for name in ("_temp_calib", "_pressure_calib", "_humidity_calib")]

    before = words()
    chip._read_coefficients()
    if words() != before:
        raise OSError("two reads of the calibration words differ")
    if before[0][0] in (0, 65535):
        raise OSError("the calibration words are empty")


def aht20(bus: Callable) -> Read:
    """Air temperature and humidity from an AHT20. Its checksum, which the driver does not read, is checked here."""
    from adafruit_ahtx0 import AHTx0

    chip = AHTx0(bus())

    def read() -> dict[str, float]:
        temperature = chip.temperature  # the driver triggers a measurement for each of the two
        _frame(chip)
        humidity = chip.relative_humidity
        _frame(chip)
        return {"ambient_temp_c": temperature, "humidity_pct": humidity}

    return read


def _frame(chip) -> None:
    """Read the last measurement once more, with its checksum, and raise OSError where it is not what the driver has just converted."""
    frame = bytearray(7)  # status, five bytes of data, checksum
    converted = bytes(chip._buf[1:6])
    with chip.i2c_device as device:
        device.readinto(frame)
    if crc8(frame[:6]) != frame[6]:
        raise OSError("wrong checksum")
    if bytes(frame[1:6]) != converted:
        raise OSError("two reads of one measurement differ")


def crc8(data: bytes) -> int:
    """The checksum of the AHT20: polynomial x^8 + x^5 + x^4 + 1, start 0xFF, most significant bit first."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x31) & 0xFF if crc & 0x80 else crc << 1
    return crc


def veml7700(bus: Callable, new: float = 0.2) -> Read:
    """Light from a VEML7700 at gain 1 and 200 ms, as a moving average with the share ``new`` of the new value."""
    from adafruit_veml7700 import VEML7700

    chip = VEML7700(bus())
    chip.light_gain = chip.ALS_GAIN_1
    chip.light_integration_time = chip.ALS_200MS
    ready = time.monotonic() + 0.25  # the first whole integration with these settings
    mean: float | None = None

    def read() -> dict[str, float | None]:
        nonlocal mean
        if time.monotonic() < ready:
            return {"light_lux": None}
        if chip.light_shutdown or chip.light_gain != chip.ALS_GAIN_1 or chip.light_integration_time != chip.ALS_200MS:
            raise OSError("lost its settings (it had no power for a moment)")
        lux = chip.lux
        mean = lux if mean is None else mean + new * (lux - mean)
        return {"light_lux": mean}

    return read
