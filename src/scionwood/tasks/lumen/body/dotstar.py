"""The three LEDs as hardware: DotStars (APA102) through Adafruit's driver.

Each LED has a coarse current (5 bits, the same for all colours) and a fine colour (8 bits each). The current is set just above the
highest brightness that we ever show, so that the fine bits are spent on what is visible.
"""

from __future__ import annotations

from typing import Any, Sequence

from scionwood.tasks.lumen.body.light import HIGHEST, LEDS, Lamp

CLOCK, DATA = "D6", "D5"  # of the BrainCraft board
COARSE = 31


class DotStars:
    """Three DotStars. ``clock`` and ``data`` are pins, by their names on the board or as objects."""

    name = "dotstars"

    def __init__(self, clock: Any = CLOCK, data: Any = DATA, highest: float = HIGHEST):
        self.pins, self.strip, self.shown = (clock, data), None, None
        self.current = min(COARSE, int(highest * COARSE) + 1)

    def open(self) -> None:
        """Reach the LEDs. Raises what the driver raises where there are none."""
        import adafruit_dotstar

        clock, data = (_pin(p) for p in self.pins)
        self.strip = adafruit_dotstar.DotStar(clock, data, LEDS, brightness=1.0, auto_write=False)
        self.shown = None

    def show(self, lamps: Sequence[Lamp]) -> None:
        """Send the lamps to the LEDs; nothing is sent where they would not change."""
        bytes_now = [self._bytes(lamp) for lamp in lamps]
        if bytes_now == self.shown:
            return
        for k, rgb in enumerate(bytes_now):
            self.strip[k] = (*rgb, (self.current + 0.5) / COARSE)  # the driver cuts the fraction off
        self.strip.show()
        self.shown = bytes_now

    def _bytes(self, lamp: Lamp) -> tuple[int, int, int]:
        scale = min(1.0, lamp.brightness * COARSE / self.current)
        return tuple(min(255, max(0, round(v * scale))) for v in lamp.colour)

    def close(self) -> None:
        """Dark, and the pins given back."""
        if self.strip is not None:
            strip, self.strip = self.strip, None
            strip.deinit()


def _pin(pin: Any) -> Any:
    """A pin of this board by name, or the pin itself."""
    if not isinstance(pin, str):
        return pin
    import board

    if not hasattr(board, pin):
        raise RuntimeError(f"the board '{board.board_id}' has no pin {pin}")
    return getattr(board, pin)
