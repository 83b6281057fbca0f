"""Errors that a user can cause: one line that names the thing and how to mend it."""


class UserError(Exception):
    """A mistake in what the user gave us. The command prints the text alone, without a traceback, and exits with 2."""


def run_script(main) -> None:
    """Run the ``main`` of a script as the command would: a UserError is one line on stderr and exit code 2."""
    import sys

    try:
        main()
    except UserError as e:
        print(e, file=sys.stderr)
        sys.exit(2)


def nearest(word: str, known) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word closest to ``word``, or an empty string."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
