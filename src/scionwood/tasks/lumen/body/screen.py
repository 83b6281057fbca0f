"""The drawing on a panel: an ST7789 of 240 x 240 through Adafruit's driver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

BAUD = 24_000_000
Y_OFFSET = 80  # the controller has 320 lines, the panel shows the last 240 when it hangs upside down
SELECT, COMMAND = "CE0", "D25"  # of the BrainCraft board


class Panel:
    """The panel of a BrainCraft board, or another ST7789 whose ``spi``, ``select`` and ``command`` are given."""

    name = "panel"

    def __init__(self, spi: Any = None, select: Any = None, command: Any = None):
        self.wires, self.display, self.shown = (spi, select, command), None, None

    def open(self) -> None:
        """Reach and initialise the panel. Raises what the driver raises where there is none."""
        from adafruit_rgb_display.st7789 import ST7789

        spi, select, command = self.wires if self.wires[0] is not None else _board()
        self.display = ST7789(spi, dc=command, cs=select, width=240, height=240, y_offset=Y_OFFSET, baudrate=BAUD)
        self.shown = None

    def show(self, image: "Image.Image") -> None:
        """Send the part of a picture that has changed."""
        from PIL import Image, ImageChops

        image = image.transpose(Image.Transpose.ROTATE_180)
        box = ImageChops.difference(image, self.shown).getbbox() if self.shown else (0, 0, *image.size)
        if box is None:
            return
        left, top, right, bottom = box
        # the driver's own image() takes every pixel through Python, or NumPy for all of them
        self.display._block(left, top, right - 1, bottom - 1, rgb565(image.crop(box)))
        self.shown = image

    def close(self) -> None:
        """Black."""
        if self.display is not None:
            display, self.display = self.display, None
            display.fill(0)


def rgb565(image: "Image.Image") -> bytes:
    """A picture as the panel takes it: 16 bits a pixel (5 red, 6 green, 5 blue), high byte first."""
    r, g, b = image.convert("RGB").split()
    red, green_high, green_low, blue = (band.point([cut(v) for v in range(256)]).tobytes() for band, cut in (
        (r, lambda v: v & 0xF8), (g, lambda v: v >> 5), (g, lambda v: (v & 0x1C) << 3), (b, lambda v: v >> 3)))
    size = len(red)
    # fields never overlap, so whole planes can be joined as numbers
    high = (int.from_bytes(red, "big") | int.from_bytes(green_high, "big")).to_bytes(size, "big")
    low = (int.from_bytes(green_low, "big") | int.from_bytes(blue, "big")).to_bytes(size, "big")
    out = bytearray(2 * size)
    out[0::2], out[1::2] = high, low
    return bytes(out)


def _board() -> tuple[Any, Any, Any]:
    import board
    import digitalio

    missing = [name for name in ("SPI", SELECT, COMMAND) if not hasattr(board, name)]
    if missing:
        raise RuntimeError(f"the board '{board.board_id}' has no {missing[0]}")
    return board.SPI(), digitalio.DigitalInOut(getattr(board, SELECT)), digitalio.DigitalInOut(getattr(board, COMMAND))
