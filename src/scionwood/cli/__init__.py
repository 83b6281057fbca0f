"""The command ``scion``: one file per subcommand, each thin: parse, call, print."""

from __future__ import annotations

import errno
import os
import sys

STOPPED = 130
MENDS = {
    errno.ENOSPC: "make room and run it again",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EROFS: "name a folder that can be written with --out",
}
# The extra that brings a library. Without extras the package is small enough for a device.
EXTRAS = dict.fromkeys(("torch", "transformers", "peft", "accelerate", "huggingface_hub", "scipy", "sklearn", "llguidance", "matplotlib", "yaml",
                        "httpx"), "train") | {
    "gguf": "export", "xllamacpp": "export", "fastapi": "serve", "uvicorn": "serve", "prometheus_client": "serve", "starlette": "serve",
    "psutil": "device", "PIL": "device", "board": "device", "busio": "device", "skl2onnx": "student", "onnx": "student", "onnxruntime": "student",
    "rjieba": "chinese", "pyarrow": "nla",
}


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
    except SystemExit as e:
        if e.code == STOPPED:  # typer's own end of a KeyboardInterrupt, which says nothing
            print("scion: stopped; the same command goes on where it was", file=sys.stderr)
        raise
    except ModuleNotFoundError as e:
        library = (e.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        print(f"scion: this needs the library {library}; install it with: pip install 'scionwood[{EXTRAS[library]}]'", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as e:
        if e.errno is None:  # a library's error, not the system's
            raise
        mend = MENDS.get(e.errno, "mend that and run it again")
        print(f"scion: {e.filename or 'a file'}: {e.strerror}; {mend}", file=sys.stderr)
        sys.exit(2)
