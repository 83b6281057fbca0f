"""scion doctor: what this machine and this installation can do."""

import typer

from scionwood.cli.common import quiet_libraries


def doctor() -> None:
    """Check the installation and say what would be chosen on this machine, and why."""
    from importlib.util import find_spec

    from scionwood.doctor import checks

    if find_spec("transformers") is not None:  # a device that only serves has none
        quiet_libraries()
    worst = 0
    for check in checks():
        print(f"{check.mark:4} {check.text}")
        worst = max(worst, check.mark == "FAIL")
    if worst:
        raise typer.Exit(1)
