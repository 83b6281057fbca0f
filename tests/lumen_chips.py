"""Chips on an I2C bus, emulated register by register after their data sheets, for the real drivers to talk to."""

from __future__ import annotations

import struct

REMOTE_IO = 121  # what Linux says where no chip acknowledges


class Bus:
    """An object with the interface of busio.I2C. Chips are plugged in and out at any time; traffic can be disturbed."""

    def __init__(self, **chips):
        self.chips = {int(name[1:], 16): chip for name, chip in chips.items()}  # x77=Bme280()
        self.locked = False
        self.failing = 0  # so many transfers still to fail
        self.disturb = None  # changes the bytes that are read
        self.transfers = 0

    def try_lock(self):
        taken, self.locked = self.locked, True
        return not taken

    def unlock(self):
        self.locked = False

    def _chip(self, address):
        assert self.locked, "a driver must hold the bus"
        self.transfers += 1
        if self.failing:
            self.failing -= 1
            raise OSError(5, "Input/output error")
        if address not in self.chips:
            raise OSError(REMOTE_IO, "Remote I/O error")
        return self.chips[address]

    def writeto(self, address, buffer, *, start=0, end=None):
        self._chip(address).write(bytes(buffer[start:end]))

    def readfrom_into(self, address, buffer, *, start=0, end=None):
        end = len(buffer) if end is None else end
        data = self._chip(address).read(end - start)
        buffer[start:end] = self.disturb(address, data) if self.disturb else data

    def writeto_then_readfrom(self, address, out_buffer, in_buffer, *, out_start=0, out_end=None, in_start=0, in_end=None):
        self.writeto(address, out_buffer, start=out_start, end=out_end)
        self.readfrom_into(address, in_buffer, start=in_start, end=in_end)


class Barometer:
    """What BMP280 and BME280 have in common: a register file with auto-increment, calibration words, forced measurements."""

    CHIP_ID = None
    # The calibration words of the worked example in the BMP280's data sheet (section 3.12).
    T = (27504, 26435, -1000)
    P = (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)

    def __init__(self, adc_t=519888, adc_p=415148, adc_h=30000, polls=2):
        self.adc_t, self.adc_p, self.adc_h = adc_t, adc_p, adc_h
        self.polls = polls  # status reads for which a measurement takes; None: for ever
        self.conversions = 0
        self.power_on()

    def power_on(self):
        self.registers = bytearray(256)
        self.registers[0xD0] = self.CHIP_ID
        self.registers[0x88:0xA0] = struct.pack("<HhhHhhhhhhhh", *self.T, *self.P)
        self.registers[0xF7:0xFD] = bytes([0x80, 0, 0, 0x80, 0, 0])  # "no measurement yet"
        self.pointer, self.left = 0, 0

    def write(self, data):
        for register, value in zip(data[0::2], data[1::2]):  # address and value in turn
            if register == 0xE0:
                if value == 0xB6:
                    self.power_on()
            elif register in (0xF2, 0xF4, 0xF5):
                self.registers[register] = value
                if register == 0xF4 and value & 0b11 in (1, 2):
                    self._measure(value)
        if len(data) == 1:
            self.pointer = data[0]

    def _measure(self, control):
        self.conversions += 1
        self.left = self.polls
        self.registers[0xF4] = control & ~0b11  # back to sleep when done
        self.registers[0xF7:0xFA] = self._word(self.adc_p, control >> 2 & 0b111)
        self.registers[0xFA:0xFD] = self._word(self.adc_t, control >> 5)

    @staticmethod
    def _word(adc, oversampling):
        return (adc << 4 if oversampling else 0x800000).to_bytes(3, "big")

    def read(self, count):
        if self.pointer == 0xF3:
            busy = self.left is None or self.left > 0
            self.left = self.left and self.left - 1
            self.registers[0xF3] = 0x08 if busy else 0
        data = bytes(self.registers[self.pointer:self.pointer + count])
        self.pointer = (self.pointer + count) & 0xFF
        return data


class Bmp280(Barometer):
    """Chip id 0x58; no humidity."""

    CHIP_ID = 0x58


class Bme280(Barometer):
    """Chip id 0x60; humidity with its calibration words at 0xA1 and 0xE1, of which H4 and H5 share a byte."""

    CHIP_ID = 0x60
    H = (75, 370, 0, 313, 50, 30)

    def power_on(self):
        super().power_on()
        h1, h2, h3, h4, h5, h6 = self.H
        self.registers[0xA1] = h1
        self.registers[0xE1:0xE8] = struct.pack("<hBbBbb", h2, h3, h4 >> 4, (h4 & 0xF) | (h5 & 0xF) << 4, h5 >> 4, h6)
        self.registers[0xFD:0xFF] = bytes([0x80, 0])
        self.humidity_on = False

    def write(self, data):
        if data[:1] == b"\xf4" and len(data) == 2:
            self.humidity_on = self.registers[0xF2] & 0b111 > 0  # takes effect with the next write to 0xF4
        super().write(data)

    def _measure(self, control):
        super()._measure(control)
        self.registers[0xFD:0xFF] = (self.adc_h if self.humidity_on else 0x8000).to_bytes(2, "big")


def bosch_temperature(adc, t):
    """The data sheet's integer compensation: hundredths of a degree, and t_fine."""
    var1 = ((adc >> 3) - (t[0] << 1)) * t[1] >> 11
    var2 = (((adc >> 4) - t[0]) * ((adc >> 4) - t[0]) >> 12) * t[2] >> 14
    return (var1 + var2) * 5 + 128 >> 8, var1 + var2


def bosch_humidity(adc, h, t_fine):
    """The data sheet's integer compensation: percent times 1024."""
    v = t_fine - 76800
    v = ((adc << 14) - (h[3] << 20) - h[4] * v + 16384 >> 15) * \
        (((((v * h[5] >> 10) * ((v * h[2] >> 11) + 32768) >> 10) + 2097152) * h[1] + 8192) >> 14)
    v -= ((v >> 15) * (v >> 15) >> 7) * h[0] >> 4
    return min(max(v, 0), 419430400) >> 12


class Aht20:
    """Commands, a busy bit, 20-bit values and the checksum. The old calibration command is not acknowledged."""

    def __init__(self, temperature=25.0, humidity=50.0, polls=2):
        self.temperature, self.humidity, self.polls = temperature, humidity, polls
        self.conversions = 0
        self.power_on()

    def power_on(self):
        self.status, self.left, self.data = 0x18, 0, bytes(5)

    def write(self, data):
        if not data:
            return
        if data[0] == 0xE1:
            raise OSError(REMOTE_IO, "Remote I/O error")
        if data[0] == 0xBA:
            self.power_on()
        elif data[:3] == b"\xac\x33\x00":
            self.conversions += 1
            self.left = self.polls
            both = round(self.humidity / 100 * 2**20) << 20 | round((self.temperature + 50) / 200 * 2**20)
            self.data = both.to_bytes(5, "big")
        elif data[0] != 0xBE:
            raise OSError(REMOTE_IO, "Remote I/O error")

    def read(self, count):
        busy = self.left is None or self.left > 0
        self.left = self.left and self.left - 1
        frame = bytes([self.status | (0x80 if busy else 0)]) + self.data
        return (frame + bytes([bitwise_crc(frame)]) + b"\xff" * count)[:count]


def bitwise_crc(data):
    """CRC-8, x^8 + x^5 + x^4 + 1, start 0xFF, as polynomial division of one long number: another way than the one under test."""
    value = int.from_bytes(data, "big") << 8
    value ^= 0xFF << 8 * len(data)
    for bit in range(8 * len(data) + 7, 7, -1):
        if value >> bit & 1:
            value ^= 0x131 << (bit - 8)
    return value


class Veml7700:
    """16-bit registers, low byte first. After power-on it is shut down, and what it is told is forgotten."""

    def __init__(self, counts=1000):
        self.counts = counts
        self.power_on()

    def power_on(self):
        self.registers = [0x0001, 0, 0, 0, 0, 0, 0, 0xC481]
        self.pointer = 0

    def write(self, data):
        if data:
            self.pointer = data[0]
        if len(data) == 3:
            self.registers[data[0]] = int.from_bytes(data[1:], "little")

    def read(self, count):
        if self.pointer == 4 and not self.registers[0] & 1:
            self.registers[4] = self.counts
        return self.registers[self.pointer].to_bytes(2, "little")[:count].ljust(count, b"\xff")
