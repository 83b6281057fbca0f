"""scion lumen distil, live, watch: the student and the body."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

RECIPE = typer.Option(None, "--recipe", show_default=False, help="Recipe of the body (TOML: sensing, state, store, shapes).")
SETS = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a key of the recipe, for example state.scales.pressure_hpa=955.")
REPLAY = typer.Option(None, "--replay", metavar="FILE", show_default=False, help="Feel a recording instead of this machine's sensors.")
TEMPO = typer.Option(None, "--tempo", min=0.0, show_default=False,
                     help="With --replay: times as fast as it was recorded; 0 does not wait at all.")
SEED = typer.Option(0, "--seed", help="Seed of what is left to chance; the same seed and recording give the same session.")
STUDENT = typer.Option(None, "--student", metavar="FILE", show_default=False,
                       help="A student from 'scion lumen distil' (student.safetensors; default: the one that ships).")
TEMPERATURE = typer.Option(1.0, "--temperature", min=0.01, max=10.0, help="How freely expressions are drawn; 1 is as the teacher does.")
SECONDS = typer.Option(0.0, "--for", min=0.0, metavar="SECONDS", help="Stop after so long; 0 goes on until Ctrl-C or the recording's end.")
PORT = 8737


def distil(
    teacher: str = typer.Argument("rules", metavar="TEACHER", help="rules (the generator, on windows of all shapes), a file of rows in the "
                                  "published format, or RUN:SYSTEM (the answers of a system of a run of task lumen)."),
    out: Path = typer.Option(Path("student"), "--out", help="Folder for the student: JSON, ONNX, the compact file, the report."),
    answers: Optional[Path] = typer.Option(None, "--answers", show_default=False, metavar="FILE",
                                           help='With a file of rows: the teacher\'s answers to them ({"case": 1, "text": ...} lines).'),
    recording: Optional[Path] = typer.Option(None, "--recording", show_default=False,
                                             help="With rules: windows of this recording as well."),
    windows: int = typer.Option(600, "--windows", min=10, help="With rules: synthetic windows of each shape."),
    trees: int = typer.Option(200, "--trees", min=2, max=2000, help="Trees of each forest of the full student."),
    seed: int = typer.Option(42, "--seed", help="Seed of windows, rules and forests."),
) -> None:
    """Distil a teacher's answers into random forests that a small device can ask, and measure them on windows from a later time."""
    from scionwood.cli.common import say
    from scionwood.tasks.lumen.student.distil import distil as make
    from scionwood.tasks.lumen.student.distil import table

    examples, about = _examples(teacher, answers, recording, windows, seed, say)
    report = make(examples, out, about, trees, seed, say)
    print(table(report))
    say(f"{out}: student.safetensors (compact), student.json, onnx/, report.json")


def _examples(teacher: str, answers: Path | None, recording: Path | None, windows: int, seed: int, say):
    """What the student learns from, and where it comes from."""
    from scionwood.errors import UserError
    from scionwood.tasks.lumen.student import examples as ex

    if teacher == ex.RULES:
        if answers:
            raise UserError("--answers goes with a file of rows as the teacher's windows")
        found = ex.natural_windows(windows, seed)
        about = {"teacher": "the rules", "windows": f"{windows} synthetic of each shape, seed {seed}"}
        if recording:
            from scionwood.tasks.lumen.settings import Body
            from scionwood.tasks.lumen.store.loop import played
            from scionwood.tasks.lumen.store.recordings import read_recording

            points = [felt.point() for felt, _ in played(read_recording(recording), Body())]
            recorded = ex.recorded_windows(points, recording.stem.split(".")[0])
            say(f"{recording}: {len(recorded)} windows with a shape")
            # both kinds are put on one scale of time, so that each gives its last stretch to the test
            found = ex.on_one_scale(found) + ex.on_one_scale(recorded)
            about["windows"] += f", and {len(recorded)} of {recording.name}"
        return ex.taught_by_rules(found, seed), about
    if recording:
        raise UserError("--recording goes with the teacher 'rules'; another teacher's windows come with its answers")
    if Path(teacher).is_file():
        taught, left = ex.taught_in_rows(Path(teacher), answers)
        about = {"teacher": f"answers in {answers.name if answers else Path(teacher).name}", "windows": f"rows of {Path(teacher).name}"}
    else:
        folder, colon, system = teacher.rpartition(":")
        if not colon or not Path(folder).is_dir():
            raise UserError(f"teacher '{teacher}': neither 'rules' nor a file of rows nor RUN:SYSTEM with the folder of a run")
        taught, left = ex.taught_in_run(Path(folder), system)
        about = {"teacher": f"{system} of {Path(folder).name}", "windows": f"test cases of {Path(folder).name}"}
    say(f"{len(taught)} answers to learn from; {left} left out, which no student could write")
    return taught, about


def live(
    replay: Optional[Path] = REPLAY, tempo: Optional[float] = TEMPO,
    leds: Optional[bool] = typer.Option(None, "--leds/--no-leds", show_default=False,
                                        help="Drive the three DotStar LEDs (default: yes, but not with --replay)."),
    panel: Optional[bool] = typer.Option(None, "--panel/--no-panel", show_default=False,
                                         help="Draw on the ST7789 panel (default: yes, but not with --replay)."),
    speak: bool = typer.Option(False, "--speak", help="Speak with espeak-ng, or with Piper and its voice."),
    piper: Optional[Path] = typer.Option(None, "--piper", metavar="VOICE", show_default=False,
                                         help="Voice for Piper (.onnx, its .json beside it)."),
    frames: Optional[Path] = typer.Option(None, "--frames", metavar="FOLDER", show_default=False, help="Write pictures of the body (PNG)."),
    gallery: Optional[Path] = typer.Option(None, "--gallery", metavar="FOLDER", show_default=False, help="Keep finished drawings (PNG)."),
    journal: Optional[Path] = typer.Option(None, "--journal", metavar="FILE", show_default=False,
                                           help="Append every expression (JSON lines)."),
    store: Optional[Path] = typer.Option(None, "--store", metavar="FILE", show_default=False,
                                         help="Record readings and states as well (SQLite)."),
    page: int = typer.Option(0, "--page", min=0, max=65535, help="Serve the page of 'scion lumen watch' on this port of loopback as well."),
    brightest: float = typer.Option(0.12, "--brightest", min=0.02, max=1.0,
                                    help="Highest brightness of an LED, as a share of its full light."),
    quiet: bool = typer.Option(False, "--quiet", help="Print no line for an expression."),
    temperature: float = TEMPERATURE, seed: int = SEED, student: Optional[Path] = STUDENT, seconds: float = SECONDS,
    recipe: Optional[Path] = RECIPE, sets: list[str] = SETS,
) -> None:
    """Sense, feel, express: three LEDs, a drawing that grows, an inner voice. What is missing is left out and looked for again."""
    import sys

    from scionwood.tasks.lumen.body.speech import programs
    from scionwood.tasks.lumen.body.twins import Terminal
    from scionwood.tasks.lumen.live.running import Wishes, run

    from scionwood.cli.common import say
    from scionwood.errors import UserError

    speech = programs(piper) if speak or piper else None
    if speak and speech is None:
        raise UserError("--speak: neither espeak-ng nor Piper is installed (apt install espeak-ng)")
    terminal = None if quiet else Terminal(sys.stdout, sys.stdout.isatty())
    leds, panel = (replay is None if wanted is None else wanted for wanted in (leds, panel))
    wishes = Wishes(replay, tempo, leds, panel, speech, terminal, frames, gallery, journal, store, page,
                    brightest, temperature, seed, student, seconds)
    run(wishes, recipe, sets, say)


def watch(
    replay: Optional[Path] = REPLAY, tempo: Optional[float] = TEMPO,
    port: int = typer.Option(PORT, "--port", min=0, max=65535, help="Port on loopback; 0 picks a free one."),
    temperature: float = TEMPERATURE, seed: int = SEED, student: Optional[Path] = STUDENT, seconds: float = SECONDS,
    recipe: Optional[Path] = RECIPE, sets: list[str] = SETS,
) -> None:
    """Everything in a browser: state, shapes, the three LEDs, the drawing, the voice, and why this was expressed. No hardware is driven."""
    from scionwood.cli.common import say
    from scionwood.tasks.lumen.live.running import Wishes, run

    wishes = Wishes(replay, tempo, page=port, temperature=temperature, seed=seed, student=student, seconds=seconds, watch=True)
    run(wishes, recipe, sets, say)
