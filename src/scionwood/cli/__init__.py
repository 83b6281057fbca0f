"""The command ``scion``: one file per subcommand, each thin: parse, call, print."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command. An error that the user can mend is one line on stderr and exit code 2."""
    # the tokenizers library warns when a process forks after it was used; we do not tokenise in parallel
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from scionwood.cli.app import app
    from scionwood.errors import UserError

    try:
        app()
    except UserError as e:
        print(f"scion: {e}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("scion: stopped; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
