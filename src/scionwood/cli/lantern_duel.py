"""scion lantern duel, rate: small against large on the same tasks, measured and rated blind."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

PORT = 8741


def duel(
    contestants: list[str] = typer.Argument(
        None,
        metavar="A B...",
        show_default=False,
        help="[NAME=]WHAT[,KEY=VALUE...]: a base (embedded, folder, hub name; ,adapter=FOLDER), RUN or RUN:SYSTEM, "
        "FILE.gguf, http://HOST/v1,model=NAME (,key_env=VARIABLE), or ANSWERS.jsonl; after each, its own "
        "temperature, top_p, min_p, tokens, keep_going. None: go on with --out.",
    ),
    out: Optional[Path] = typer.Option(
        None, "--out", metavar="FOLDER", show_default=False, help="Folder of the duel: answers, ratings, report."
    ),
    tasks: Optional[Path] = typer.Option(
        None, "--tasks", metavar="FILE", show_default=False, help="Tasks as JSON lines (default: those that ship)."
    ),
    lang: str = typer.Option("en", "--lang", help="Language of the tasks: en, zh, or all."),
    words: int = typer.Option(150, "--words", min=10, max=10_000, help="Length at which all answers are compared."),
    samples: int = typer.Option(4, "--samples", min=1, max=100, help="Answers to each task."),
    temperature: float = typer.Option(
        1.0, "--temperature", min=0.0, max=10.0, help="How freely answers are drawn; 0 takes the likeliest token."
    ),
    top_p: float = typer.Option(1.0, "--top-p", min=0.0, max=1.0, help="Keep the fewest tokens that hold so much probability."),
    min_p: float = typer.Option(0.0, "--min-p", min=0.0, max=1.0, help="Keep tokens with this share of the likeliest one's probability."),
    tokens: Optional[int] = typer.Option(
        None, "--tokens", min=1, show_default=False, help="Longest answer in tokens (default: 3 for each word)."
    ),
    keep_going: bool = typer.Option(
        False, "--keep-going", help="Do not let local models and sidecars end an answer before --words (fact tasks aside)."
    ),
    note: str = typer.Option("", "--note", metavar="TEXT", help="Put after every prompt, alike for all; {words} is the length."),
    seed: int = typer.Option(0, "--seed", help="Seed of what is left to chance."),
    near: Optional[float] = typer.Option(
        None,
        "--near",
        min=0.01,
        max=1.0,
        show_default=False,
        help="Similarity from which a task leaks into the training prompts (default: 0.5).",
    ),
    allow_leaks: bool = typer.Option(False, "--allow-leaks", help="Go on with tasks that leak; the report names them."),
    judges: list[str] = typer.Option(
        [],
        "--judge",
        metavar="URL,model=NAME",
        show_default=False,
        help="An endpoint that compares every pair, in both orders; may be given again.",
    ),
    verify: Optional[Path] = typer.Option(
        None, "--verify", metavar="FOLDER", show_default=False, help="Compute a duel's figures again, and do nothing else."
    ),
) -> None:
    """Two or more models on the same tasks at equal length: diversity, correctness, blind ratings. Stopped anywhere, it goes on."""
    from scionwood.cli.common import quiet_libraries, say
    from scionwood.errors import UserError

    if verify is not None:
        if contestants or out:
            raise UserError("--verify FOLDER: stands alone; name neither contestants nor --out")
        return _verify(verify)
    if out is None:
        raise UserError("--out FOLDER: name the folder of the duel, for example --out duels/first")
    quiet_libraries()
    from scionwood.settings import check
    from scionwood.tasks.lantern.duel.contestants import Sampling
    from scionwood.tasks.lantern.duel.run import NEAR, Plan, go_on, hold

    if not contestants:
        _told(go_on(out, say))
        return
    sampling = check(
        {
            "temperature": temperature,
            "top_p": top_p,
            "min_p": min_p,
            "tokens": tokens or 3 * words,
            "keep_going": words if keep_going else 0,
        },
        Sampling,
        "scion lantern duel",
    )
    plan = Plan(
        tasks, "" if lang == "all" else lang, samples, words, seed, note, sampling, NEAR if near is None else near, allow_leaks, judges
    )
    _told(hold(contestants, out, plan, say))


def rate(
    folder: Path = typer.Argument(..., metavar="FOLDER", help="Folder of a duel."),
    port: int = typer.Option(PORT, "--port", min=0, max=65535, help="Port on loopback; 0 picks a free one."),
) -> None:
    """Rate a duel's answers blind in a browser: 1 left, 2 right, 0 no difference, u undo. Ctrl-C ends it and writes the report anew."""
    from scionwood.cli.common import say
    from scionwood.tasks.lantern.duel import results
    from scionwood.tasks.lantern.duel.rate_page import serve
    from scionwood.tasks.lantern.duel.reading import read_duel
    from scionwood.tasks.lumen.stopping import stopped_by_signals

    page = serve(read_duel(folder), port)
    print(f"rate at {page.address} (Ctrl-C ends it)", flush=True)
    try:
        with stopped_by_signals() as stop:
            stop.wait()
    finally:
        page.close()
    results.write(folder, say)


def _verify(folder: Path) -> None:
    """Print what does not hold, and exit with 1; or one line that all does."""
    from scionwood.tasks.lantern.duel.results import verify

    wrong = verify(folder)
    for line in wrong:
        print(line)
    if wrong:
        raise typer.Exit(1)
    print(f"{folder}: every figure follows from the files")


def _told(value: dict) -> None:
    """The end of a duel on the terminal."""
    from scionwood.evidence.format import number, p_value, signed

    for c in value["comparisons"]:
        print(
            f"{c['second']} beside {c['first']}, {c['metric']}: {signed(c['difference'])} over {c['n']} tasks, p {p_value(c['adjusted'])}: "
            f"{c['verdict']}"
            f" (could have shown {number(c['detectable'])})"
        )
