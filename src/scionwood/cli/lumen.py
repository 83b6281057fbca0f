"""scion lumen: a small body that feels its day. Recordings: made, played back, brought in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import typer

from scionwood.cli import lumen_body

app = typer.Typer(
    help="A small body that feels its day: sensed, recorded, told in shapes and expressions, shown by light, screen and voice.",
    no_args_is_help=True, rich_markup_mode=None)

app.command("distil")(lumen_body.distil)
app.command("live")(lumen_body.live)
app.command("watch")(lumen_body.watch)

RECIPE = typer.Option(None, "--recipe", show_default=False, help="Recipe of the body (TOML: sensing, state, store, shapes).")
SETS = typer.Option([], "--set", metavar="KEY=VALUE", help="Change a key of the recipe, for example state.scales.pressure_hpa=955.")
JSON = typer.Option(False, "--json", help="One JSON object a line, with every intermediate value.")


@app.command()
def record(
    store: Optional[Path] = typer.Option(None, "--store", show_default=False, help="SQLite file to write to (default: lumen.db)."),
    seconds: float = typer.Option(0.0, "--for", min=0.0, metavar="SECONDS", help="Stop after so long; 0 goes on until Ctrl-C."),
    recipe: Optional[Path] = RECIPE, sets: list[str] = SETS, as_json: bool = JSON,
) -> None:
    """Sense this machine and keep readings and states. Sensors may be missing, fail and come back; the recording goes on."""
    from scionwood.cli.common import say
    from scionwood.tasks.lumen.settings import body_of
    from scionwood.tasks.lumen.store.loop import record_until

    body = body_of(recipe, sets)
    target = store or Path(body.store.path)
    say(f"recording to {target}, a state every {body.state.every_s:g} s; Ctrl-C ends it")
    written = record_until(target, body, seconds, lambda felt, r: print(_line(felt, as_json, r.reasons), flush=True), say)
    say(f"{target}: {written} states written")


@app.command()
def replay(
    recording: Path = typer.Argument(..., metavar="FILE", help="A store, a compact recording (.csv.xz) or raw telemetry (JSON lines)."),
    tempo: float = typer.Option(0.0, "--tempo", min=0.0, help="Times as fast as it was recorded; 0 does not wait at all."),
    session: Optional[int] = typer.Option(None, "--session", show_default=False, help="Session of a store (default: the last)."),
    picture: Optional[Path] = typer.Option(None, "--picture", show_default=False, help="Draw curves and shapes to this SVG file."),
    recipe: Optional[Path] = RECIPE, sets: list[str] = SETS, as_json: bool = JSON,
) -> None:
    """Play a recording back: the state at each reading, and the shape of the window that ends there."""
    from scionwood.cli.common import say
    from scionwood.tasks.lumen.settings import body_of
    from scionwood.tasks.lumen.store.loop import played, summary
    from scionwood.tasks.lumen.store.recordings import paced, read_recording, recorded_state

    body = body_of(recipe, sets)
    if not recipe and not any(s.startswith("state.") for s in sets) and (state := recorded_state(recording, session)):
        body = body.model_copy(update={"state": state})
    points, shapes = [], []
    for felt, verdict in played(paced(read_recording(recording, session), tempo), body):
        print(_line(felt, as_json, shape=verdict.shape if verdict else "", why=verdict.why if verdict else ""), flush=tempo > 0)
        points.append(felt.point())
        shapes.append(verdict.shape if verdict else "")
    for line in summary(points, body):
        say(line)
    if picture:
        from scionwood.files import write_text
        from scionwood.tasks.lumen.store.loop import stretches
        from scionwood.tasks.lumen.trajectories.plots import recording_drawing

        write_text(picture, recording_drawing(points, stretches(points, shapes)) + "\n")
        say(f"{picture}: drawn")


@app.command("import")
def import_(
    source: Path = typer.Argument(..., metavar="FILE", help="Raw telemetry (JSON lines), a recording, or rows in the published format."),
    to: Path = typer.Option(Path("lumen.db"), "--to",
                            help="A store to add to, or a compact recording to write (.csv.xz, with its data card)."),
    session: Optional[int] = typer.Option(None, "--session", show_default=False, help="Session of a store (default: the last)."),
    made: str = typer.Option("", "--made", metavar="TEXT", help="For the data card: what was recorded, and what the machine was doing."),
    recipe: Optional[Path] = RECIPE, sets: list[str] = SETS,
) -> None:
    """Bring a file into a store, or write a recording as a compact file that can be shipped."""
    from scionwood.cli.common import say
    from scionwood.tasks.lumen.settings import body_of
    from scionwood.tasks.lumen.store.bring import bring

    say(bring(source, to, body_of(recipe, sets), session, made))


@app.command()
def evaluate(
    file: Path = typer.Argument(..., metavar="FILE",
                                help="Rows in the published format (text, shape, pattern, messages): a JSON list or JSON lines."),
    systems: list[str] = typer.Option([], "--system", metavar="NAME", show_default=False,
                                      help="A rival, 'labels', a file of answers, RUN or RUN:SYSTEM; may be given again "
                                      "(default: labels and all rivals)."),
    seeds: int = typer.Option(20, "--seeds", min=1, max=1000, help="Seeds over which systems that draw are averaged."),
    as_json: bool = typer.Option(False, "--json", help="Every figure as JSON, those of single shapes too."),
) -> None:
    """Score systems on a file of rows: coherence, validity, patterns, diversity, and Jensen-Shannon distances to the rules."""
    from dataclasses import asdict

    from scionwood.cli.common import quiet_libraries, say
    from scionwood.tasks.lumen.evaluating import evaluate_file, table

    quiet_libraries()
    found = evaluate_file(file, systems, seeds, say)
    print(json.dumps([asdict(f) for f in found], indent=1) if as_json else f"{found[0].rows} rows\n{table(found)}")


@app.command()
def noise(
    recording: Path = typer.Argument(..., metavar="FILE", help="A store, a compact recording (.csv.xz) or raw telemetry (JSON lines)."),
    to: Path = typer.Option(Path("noise.json"), "--to", help="File to write."),
    name: str = typer.Option("", "--name", metavar="TEXT", help="What was recorded, for the file (default: the recording's file name)."),
) -> None:
    """Measure the noise of a recording's quiet windows, for synthetic windows (task_options.noise of the task's prompt "blind")."""
    from scionwood.tasks.lumen.blend import recorded_states
    from scionwood.tasks.lumen.trajectories.noise import measure, save

    found = measure(recorded_states(recording), name or recording.name)
    save(found, to)
    print(f"{to}: {json.dumps(found.measured)}")


def _line(felt, as_json: bool, reasons: dict[str, str] | None = None, **more) -> str:
    """A state on a line of its own."""
    import time

    if as_json:
        return json.dumps({**felt.explained(), **({"reasons": reasons} if reasons is not None else {}), **more})
    clock = time.strftime("%H:%M:%S", time.localtime(felt.t))
    known = f"{len(reasons)} not known" if reasons else more.get("shape", "")
    return f"{clock}  E {felt.E:.3f}  I {felt.I:.3f}  S {felt.S:.3f}  V {felt.V:.3f}  {known}".rstrip()
