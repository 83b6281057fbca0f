"""Write the generated regions of README.md, docs/*.md and the data card: help, recipe keys, layout, limits, counts, figures.

A region stands between ``<!-- generated:NAME -->`` and ``<!-- /generated -->``; all else in a document is left as it is. The figures of a
run stand in ``<!-- generated:figures RUN -->``, RUN being its folder below runs/; they are left as they are where that run is not there.

    python docs/generate.py                                  # rewrite every region
    python docs/generate.py --check                          # exit 1 and name what is out of date
    python docs/generate.py figures --picture                # figures of the runs that are there, and pictures of their reports
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Iterator, Literal, Sequence, Union, get_args, get_origin

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "scionwood"
RUNS = ROOT / "runs"  # where `make figures` puts the runs that the documents show
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), SOURCE / "tasks" / "cerebellum" / "data" / "README.md"]
REGION = re.compile(r"(?P<open><!-- generated:(?P<name>[a-z]+)(?: (?P<run>[\w.-]+))? -->\n)"
                    r"(?P<text>.*?)(?P<close><!-- /generated -->)", re.S)


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table as the card prints it; ``columns`` come from ``blocks.words`` and ``blocks.numbers``."""
    from scionwood.evidence.blocks import Table
    from scionwood.evidence.card import block

    return block(Table(caption, columns, rows))


# -- help, commands --------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """((), the whole), (("run",), its subcommand), ... in the order of ``scion --help``."""
    import typer

    from scionwood.cli.app import app

    def walk(path: tuple[str, ...], command) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield path, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk((*path, name), inner)

    return walk((), typer.main.get_command(app))


def help_text(document: Path) -> str:
    """The help of ``scion`` and of every subcommand, as the program prints it on a terminal of 80 columns."""
    from typer.testing import CliRunner

    from scionwood.cli.app import app

    runner, parts = CliRunner(env={"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}), []
    for path, _ in commands():
        shown = runner.invoke(app, [*path, "--help"], prog_name="scion")
        parts.append(f"## {' '.join(['scion', *path])}\n\n```text\n{shown.output.strip()}\n```")
    return "\n\n".join(parts)


def command_table(document: Path) -> str:
    """Every subcommand with the first sentence of its help."""
    rows = []
    for path, command in commands():
        if path and not getattr(command, "commands", None):
            first = re.split(r"(?<=\.)\s", " ".join(command.help.split()))[0]
            rows.append(f"| `scion {' '.join(path)}` | {first} |")
    return "\n".join(["| command | what it does |", "|:---|:---|", *rows])


# -- recipe ----------------------------------------------------------------------------------------------------------------

WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", dict: "table", Any: "anything"}
LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def recipe_keys(document: Path) -> str:
    """Every key of a recipe, one table per TOML table, from the schema that also checks recipes."""
    from scionwood.recipe import Recipe

    return "\n\n".join(schema_tables(Recipe, ""))


def body_keys(document: Path) -> str:
    """Every key of the recipe of a body (scion lumen), one table per TOML table."""
    from scionwood.tasks.lumen.settings import Body

    inner = {key: settings_in(field.annotation) for key, field in Body.model_fields.items()}
    return "\n\n".join(table for key, settings in inner.items() if settings for table in schema_tables(settings, key))


def schema_tables(schema, name: str) -> Iterator[str]:
    """The keys of a settings table, then those of the tables in it."""
    inner = {key: settings_in(field.annotation) for key, field in schema.model_fields.items()}
    rows = [f"| `{key}` | {type_of(f)} | {default_of(f)} | {cell(f.description or '')} |"
            for key, f in schema.model_fields.items() if not inner[key]]
    about = " ".join((schema.__doc__ or "").split()).replace("``", "`")
    head = f"### `[{name}]`" if name else "### Top level"
    yield "\n".join([head, "", about, "", "| key | type | default | meaning |", "|:---|:---|:---|:---|", *rows])
    for key, settings in inner.items():
        if settings:
            yield from schema_tables(settings, f"{name}.{key}".lstrip("."))


def settings_in(annotation):
    """The settings class that an annotation names, or None."""
    from scionwood.settings import Settings

    return next((a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, Settings)), None)


def type_of(field) -> str:
    """A field's type and limits in words."""
    limits = [f"{word} {getattr(m, name):g}" for m in field.metadata for name, word in LIMITS.items() if getattr(m, name, None) is not None]
    return cell(" ".join([words_of(field.annotation), *([f"({', '.join(limits)})"] if limits else [])]))


def words_of(annotation) -> str:
    """An annotation in words."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(words_of(a) for a in args if a is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(f"`{a}`" for a in args)
    if origin in (tuple, list):
        return f"list of {words_of(args[0])}" if get_origin(args[0]) is not Literal else f"list, each {words_of(args[0])}"
    return WORDS[origin or annotation]


def default_of(field) -> str:
    """A field's default as TOML."""
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True)
    return "not set" if value is None else cell(f"`{toml_of(value)}`")


def toml_of(value) -> str:
    """A value as it stands in a recipe."""
    import json

    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml_of(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    return json.dumps(value)


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return text.replace("|", "\\|")


# -- layout ----------------------------------------------------------------------------------------------------------------

FOLDERS = {  # those that hold no module to say it
    "evidence/templates": "The report's HTML and CSS.",
    "models/embedded": "The embedded base: tokenizer, chat template, weights.",
    "recipes": "The recipes that ship with the package.",
    "tasks/lantern/data": "What ordinary prose has, by length; passages that models are asked for; hand-written examples, twins and duel tasks.",
    "tasks/lantern/duel/page": "The page for blind ratings: HTML, CSS and script, without anything from elsewhere.",
    "tasks/lumen/data": "A recording of one machine.",
    "tasks/lumen/live/page": "The live page: HTML, CSS and script, without anything from elsewhere.",
    "tasks/nla/page": "The page of a reading: HTML, CSS and script, put into one file.",
    "tasks/nla/data": "Hand-written texts, each with a description and a summary.",
    "tasks/cerebellum/data": "The hand-written cases, and the recorded teacher.",
    "template": "The package that ``scion new`` writes.",
}


def tree(document: Path) -> str:
    """Every module below ``src/scionwood`` with the first line of its docstring."""
    lines = ["src/scionwood/"]
    for path in sorted(SOURCE.rglob("*"), key=lambda p: [(part.endswith(".py"), part) for part in p.relative_to(SOURCE).parts]):
        name, depth = path.relative_to(SOURCE).as_posix(), len(path.relative_to(SOURCE).parts)
        if any(name.startswith(f"{folder}/") for folder in FOLDERS) or "__pycache__" in name:
            continue
        if path.is_dir():
            about = FOLDERS.get(name) or first_line(path / "__init__.py")
            lines.append(f"{'  ' * depth + path.name + '/':26}{about}")
        elif path.suffix == ".py" and path.name != "__init__.py":
            lines.append(f"{'  ' * depth + path.name:26}{first_line(path)}")
    return "```text\n" + "\n".join(lines).replace("``", "") + "\n```"


def first_line(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]


# -- data ------------------------------------------------------------------------------------------------------------------


def data(document: Path) -> str:
    """How many cases ship, by split, job, language, label and slice, and how often the recorded teacher agrees."""
    from scionwood.evidence.blocks import numbers, words
    from scionwood.task import SPLITS
    from scionwood.tasks.cerebellum.labels import INTENTS, KINDS, RELATIONS
    from scionwood.tasks.cerebellum.task import Cerebellum

    task = Cerebellum()
    splits = {s: task.cases(s) for s in SPLITS}
    jobs = {job: {s: [c for c in cases if c.job == job] for s, cases in splits.items()} for job in ("classify", "memorize", "arbitrate")}

    def whole(cases) -> list[str]:
        of_job = Counter(c.job for c in cases)
        records = len({c.parent for c in cases if c.job == "arbitrate"})
        return [f"{n:,}" for n in (len({c.source for c in cases}), of_job["classify"], of_job["memorize"], records, of_job["arbitrate"],
                                   len(cases), sum(task.gate(c) is not None for c in cases))]

    def counted(title: str, caption: str, of_case: Callable[[Any], Sequence[str]], by_split: dict, order: Sequence[str] = ()) -> str:
        counts = {s: Counter(label for c in cases for label in of_case(c)) for s, cases in by_split.items()}
        found = order or sorted({label for n in counts.values() for label in n})
        return table([*words(title), *numbers(*SPLITS)], [[f"`{k}`", *(f"{counts[s][k]:,}" for s in SPLITS)] for k in found], caption)

    def kind(c) -> list[str]:
        return [c.reference["kind"], *(["mixed"] if c.reference["mixed"] else [])]

    authors = {s: sorted(f.stem for f in task.data_files() if f.parent.name == s) for s in SPLITS}
    sizes = numbers("sources", "classify", "memorize", "arbitrate records", "arbitrate cases", "cases in all",
                    "of these decided by the gate")
    return "\n\n".join([
        table([*words("split", "authors"), *sizes],
              [[f"`{s}`", ", ".join(authors[s]), *whole(cases)] for s, cases in splits.items()],
              "Cases per split. A record of `arbitrate` is one case for each stored memory in it"),
        counted("language", "Cases per language", lambda c: [c.lang], splits),
        counted("intent", "`classify`, cases per intent", lambda c: [c.reference], jobs["classify"], INTENTS),
        counted("kind", "`memorize`, cases per kind, and how many texts are mixed", kind, jobs["memorize"], (*KINDS, "mixed")),
        counted("relation", "`arbitrate`, cases per relation", lambda c: [c.reference], jobs["arbitrate"], RELATIONS),
        counted("slice", "Cases per slice; a case may be in several, or in none", lambda c: c.slices, splits),
        agreement(task, splits["train"])])


def agreement(task, cases) -> str:
    """How often the recorded teacher says what the reference says."""
    from scionwood.evidence.blocks import numbers, words
    from scionwood.teaching.gold import ACCEPTED, keep
    from scionwood.teaching.recorded import recall_all

    kept = keep(task, cases, recall_all(SOURCE / "tasks" / "cerebellum" / "data" / "teacher.jsonl", [c.id for c in cases]))
    rows = [[f"`{job}`", f"{n['asked']:,}", f"{n[ACCEPTED]:,}", f"{kept.agreement[job]:.3f}"] for job, n in kept.counts.items()]
    return table([*words("job"), *numbers("cases", "same as the reference", "share")], rows,
                 "The recorded teacher beside the references of the training split")


# -- measures --------------------------------------------------------------------------------------------------------------


def measures(document: Path) -> str:
    """Every measure of diversity by its type, and what ordinary prose has by length."""
    from scionwood.evidence.blocks import numbers, words
    from scionwood.tasks.lantern.measures import kinds
    from scionwood.tasks.lantern.measures.ordinary import table as prose
    from scionwood.tasks.lantern.measures.told import number

    def about(k) -> str:
        return " ".join((k.__doc__ or "").split()).replace("``", "`")

    listed = [[f"`{k.NAME}`", k.UNIT, k.OVER, about(k), "yes" if k.LENGTH_BOUND else "no", k.SOURCE]
              for k in (*kinds.TEXT, *kinds.SETS, *kinds.MODEL)]
    parts = [table(words("measure", "unit", "n counts", "what it is", "moves with length", "source"), listed, "The measures")]
    names = [k.NAME for k in (*kinds.TEXT, kinds.Overlap)]
    for lang, of in prose()["languages"].items():
        rows = [[f"{r['words']:,}", f"{r['passages']:,}", *(number(r["measures"][k][0]) if k in r["measures"] else "" for k in names)]
                for r in of["rows"]]
        parts.append(table(numbers("words", "passages", *names), rows,
                           f"What ordinary prose has by length ({lang}): means over passages of {', '.join(of['corpus'])}; "
                           f"EAD with a vocabulary of {of['vocabulary']:,} words"))
    return "\n\n".join(parts)


# -- student ---------------------------------------------------------------------------------------------------------------


def student(document: Path) -> str:
    """The report of the student of Lumen that ships."""
    from scionwood.files import read_json
    from scionwood.tasks.lumen.student.compact import SHIPPED
    from scionwood.tasks.lumen.student.distil import table as report_of

    return f"```text\n{report_of(read_json(SHIPPED.with_name('shipped.json')))}\n```"


# -- serving, export -------------------------------------------------------------------------------------------------------

LIMITS_OF = {  # every setting of a sidecar that bounds something; the others say where it listens and what it runs on
    "deadline_ms": "milliseconds until the safe default is answered, where a request names no deadline of its own",
    "longest_deadline_ms": "longest deadline that a request may name (raised to `--deadline-ms` where that is longer)",
    "max_body": "bytes of a request's body",
    "body_seconds": "seconds within which a body must have come",
    "max_open": "requests open at once",
    "max_waiting": "callers within their deadline who wait for the model",
    "max_late": "late answers that are still to come",
    "keep_hours": "hours for which a late answer can be fetched",
    "drain_seconds": "seconds that a stopping server gives to what is under way",
    "max_tokens": "tokens of a chat completion",
}


def limits(document: Path) -> str:
    """What a sidecar bounds, its default, and the option that sets it."""
    import inspect

    from scionwood.cli.serve import serve
    from scionwood.evidence.blocks import numbers, words
    from scionwood.serving.settings import Serving

    options = inspect.signature(serve).parameters
    rows = [[about, f"{Serving.model_fields[name].default:,}", f"`--{name.replace('_', '-')}`" if name in options else "fixed"]
            for name, about in LIMITS_OF.items()]
    return table([*words("what"), *numbers("default"), *words("option")], rows, "What a sidecar bounds")


def devices(document: Path) -> str:
    """The machines that ``scion fit`` knows."""
    from scionwood.evidence.blocks import numbers, words
    from scionwood.export.devices import DEVICES

    rows = [[f"`{d.name}`", d.label, f"{d.memory:g}", f"{d.bandwidth:g}", f"{d.reserved:g}"] for d in DEVICES.values()]
    return table([*words("name", "machine"), *numbers("memory, GB", "bandwidth, GB/s", "for the system, GB (assumed)")], rows,
                 "The machines that scion fit knows, by their data sheets")


# -- figures ---------------------------------------------------------------------------------------------------------------


def picture_of(run: Path) -> Path:
    """Where the picture of a run's report is kept."""
    return ROOT / "docs" / f"report-{run.name}.png"


def figures(document: Path, run: Path) -> str:
    """The verdict and the main table of a run, and the picture of its report where there is one."""
    from scionwood.evidence.card import block
    from scionwood.evidence.standing import verdict_sentences
    from scionwood.evidence.told_results import metrics
    from scionwood.files import read_json

    value = read_json(run / "figures.json")
    drawn = picture_of(run)
    picture = [f"![The report page of this run]({os.path.relpath(drawn, document.parent)})"] if drawn.exists() else []
    return "\n\n".join([" ".join(verdict_sentences(value)), *map(block, metrics(value).blocks), *picture])


def draw(run: Path) -> None:
    """Take a picture of a run's report with a headless browser; say so where there is none."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    report, target = (run / "report.html").resolve(), picture_of(run)
    if not browser or not report.exists():
        print(f"{name_of(target)}: left as it is ({'no report.html in ' + str(run) if browser else 'no chromium found'})", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
                        f"--user-data-dir={profile}", "--window-size=1280,1600", f"--screenshot={target}", report.as_uri()],
                       check=True, capture_output=True, timeout=120)
    print(name_of(target))


# -- documents -------------------------------------------------------------------------------------------------------------

WRITERS: dict[str, Callable[[Path], str]] = {
    "help": help_text, "commands": command_table, "recipe": recipe_keys, "body": body_keys, "tree": tree, "data": data,
    "measures": measures, "student": student, "limits": limits, "devices": devices}


def name_of(path: Path) -> str:
    """A path as it is told: relative to the repository."""
    return path.relative_to(ROOT).as_posix()


def run_of(match: re.Match) -> Path | None:
    """The run that a region of figures shows, where it is there."""
    run = RUNS / (match["run"] or "")
    return run if match["run"] and (run / "figures.json").exists() else None


def rewritten(document: Path, names: Sequence[str]) -> tuple[str, list[str]]:
    """The text of a document with its regions written anew, and the names of those that changed."""
    changed = []

    def write(m: re.Match) -> str:
        name = m["name"]
        if name not in names or (name == "figures" and run_of(m) is None):
            return m[0]
        text = figures(document, run_of(m)) if name == "figures" else WRITERS[name](document)
        if f"{text}\n" != m["text"]:
            changed.append(name)
        return f"{m['open']}{text}\n{m['close']}"

    return REGION.sub(write, document.read_text("utf-8")), changed


def shown_runs() -> list[Path]:
    """The runs whose figures some document shows, as far as they are there."""
    found = (run_of(m) for document in DOCUMENTS for m in REGION.finditer(document.read_text("utf-8")))
    return sorted({run for run in found if run})


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite or check the regions; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    known = (*WRITERS, "figures")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these regions: {', '.join(known)} (default: all)")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 and name each region that is out of date")
    parser.add_argument("--picture", action="store_true", help="take a picture of the report of every run whose figures are shown")
    options = parser.parse_args(arguments)
    if unknown := [n for n in options.names if n not in known]:
        parser.error(f"no region is called '{unknown[0]}' (known: {', '.join(known)})")
    if options.picture and not options.check:
        for run in shown_runs():
            draw(run)
    stale = 0
    for document in DOCUMENTS:
        text, changed = rewritten(document, options.names or known)
        for name in changed:
            print(f"{name_of(document)}: region '{name}' {'is out of date: run python docs/generate.py' if options.check else 'written'}")
        stale += len(changed)
        if changed and not options.check:
            document.write_text(text, "utf-8")
    return int(options.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
