"""``python -m scionwood`` is the command ``scion``."""

from scionwood.cli import main

main()
