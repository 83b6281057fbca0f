"""LEDs and panel on wires, emulated after their data sheets, for the real drivers to talk to."""

from __future__ import annotations

import struct


class Apa102:
    """A chain of three APA102 (DotStar): what they light after the bits that came over clock and data.

    A frame begins with 32 zero bits; each LED takes 32 bits (111, 5 bits of current, blue, green, red) and passes on the rest. A bit counts
    on the rising clock.
    """

    def __init__(self, leds=3):
        self.leds, self.bits, self.lit, self.frames = leds, [], [None] * leds, 0
        self.data = self.clock = 0
        self.broken = None  # an exception that every edge raises

    def edge(self, name, value):
        if self.broken:
            raise self.broken
        value = int(bool(value))
        if name == "clock" and value and not self.clock:
            self.bits.append(self.data)
            if self.bits[-32:] == [0] * 32 and len(self.bits) >= 32:
                self.bits = [0] * 32  # start of a frame
            if len(self.bits) == 32 * (1 + self.leds) and self.bits[:32] == [0] * 32:
                self.frames += 1
                for k in range(self.leds):
                    word = int("".join(map(str, self.bits[32 * (k + 1):32 * (k + 2)])), 2)
                    assert word >> 29 == 0b111, "not the head of an LED"
                    self.lit[k] = (word & 0xFF, word >> 8 & 0xFF, word >> 16 & 0xFF, word >> 24 & 0x1F)  # red, green, blue, current
        setattr(self, name, value)

    def pins(self):
        """A class with the interface of digitalio.DigitalInOut, whose pins are "clock" and "data"."""
        chain = self

        class Pin:
            def __init__(self, name):
                self.name, self.direction = name, None

            def deinit(self):
                pass

            value = property(lambda self: getattr(chain, self.name), lambda self, v: chain.edge(self.name, v))

        return Pin


class St7789:
    """An ST7789 on SPI: its memory after the commands that came, 240 columns of 320 lines of 16 bits."""

    def __init__(self):
        self.command, self.window, self.memory, self.on, self.written = None, [0, 0, 0, 0], {}, False, 0
        self.is_data, self.broken, self.locked = False, None, False

    # what the driver needs of busio.SPI
    def try_lock(self):
        taken, self.locked = self.locked, True
        return not taken

    def unlock(self):
        self.locked = False

    def configure(self, **settings):
        pass

    def write(self, data, **where):
        assert self.locked
        if self.broken:
            raise self.broken
        if not self.is_data:
            (self.command,) = data
            self.on = {0x29: True, 0x28: False}.get(self.command, self.on)
            return
        if self.command in (0x2A, 0x2B):
            at = 0 if self.command == 0x2A else 2
            self.window[at:at + 2] = struct.unpack(">HH", bytes(data))
        elif self.command == 0x2C:
            x0, x1, y0, y1 = self.window
            self.written += len(data)
            for k, (pixel,) in enumerate(struct.iter_unpack(">H", bytes(data))):
                self.memory[x0 + k % (x1 - x0 + 1), y0 + k // (x1 - x0 + 1)] = pixel

    def pin(self, names_data=False):
        chip = self

        class Pin:
            def switch_to_output(self, value=0, **more):
                self.value = value

            def deinit(self):
                pass

            value = property(lambda self: 0, lambda self, v: setattr(chip, "is_data", bool(v)) if names_data else None)

        return Pin()
