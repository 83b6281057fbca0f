"""scion show: one case as the model sees it, or what a run answered to it."""

from pathlib import Path
from typing import Optional

import typer

from scionwood.cli.common import flow_of_run, quiet_libraries, recipe_path, say


def show(
    what: str = typer.Argument(..., help="A run folder, a recipe file, or the name of a recipe that ships with scionwood."),
    case: Optional[str] = typer.Argument(None, help="The id of a case (default: the first test case)."),
    split: str = typer.Option("test", help="Where to look for the case: train, dev or test."),
) -> None:
    """Print one case as the model sees it, supervised tokens coloured, and what each system of a run answered."""
    from scionwood.errors import UserError, nearest
    from scionwood.task import SPLITS

    if split not in SPLITS:
        raise UserError(f"--split {split}: one of {', '.join(SPLITS)}")
    quiet_libraries()
    flow = _flow(what)
    cases = {c.id: c for c in flow.task.cases(split)}
    if case is not None and case not in cases:
        raise UserError(f"case '{case}': not in the {split} split of task '{flow.task.name}'{nearest(case, cases)}")
    if not cases:
        raise UserError(f"task '{flow.task.name}': split '{split}' has no cases; look into another one with --split")
    chosen = cases[case] if case else next(iter(cases.values()))
    print_case(flow, chosen)
    if split == "test":
        print_answers(flow, chosen)


def _flow(what: str):
    folder = Path(what)
    if folder.is_dir():
        return flow_of_run(folder)
    from scionwood.flow import flow_for
    from scionwood.recipe import read_recipe
    from scionwood.run import Run, default_folder

    path = recipe_path(what)
    recipe = read_recipe(path)
    return flow_for(recipe, Run(default_folder(recipe.name), echo=say), path.resolve().parent)


def print_case(flow, case) -> None:
    """The conversation of a case: the prompt dim, the supervised tokens coloured one by one."""
    from rich.console import Console
    from rich.text import Text

    rendered = flow.renderer.render(flow.task.messages(case), flow.task.target(case))
    tokenizer = flow.renderer.tokenizer
    text = Text()
    text.append(tokenizer.decode(rendered.prompt), style="dim")
    for i, token in enumerate(rendered.answer):
        text.append(tokenizer.decode([token]), style="bold black on " + ("green", "cyan")[i % 2])
    out = Console(highlight=False)
    out.print(f"case {case.id}  (job {case.job}, source {case.source}, {case.lang}; {', '.join(case.slices) or 'no slice'})")
    out.print(text)
    out.print(f"{len(rendered.prompt)} prompt tokens; {len(rendered.answer)} supervised tokens, coloured")
    answer = flow.task.gate(case)
    if answer is not None:
        out.print(f"the task's gate answers this case before any model: {answer}")


def print_answers(flow, case) -> None:
    """What each system of the run said, right or wrong."""
    from scionwood.files import read_jsonl

    folder = flow.run.path("predictions")
    for file in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
        for row in read_jsonl(file):
            if row["case"] == case.id:
                score = flow.task.score(case, row.get("answer") if row["status"] in ("ok", "gated") else None)
                # a task without right and wrong answers shows its scores
                mark = {1: "right", 0: "wrong"}.get(score.get("correct")) or " ".join(f"{k}={v:.3g}" for k, v in score.items())
                said = row.get("text") or row.get("reason", "")
                confidence = f"  p={row['confidence']:.2f}" if "confidence" in row else ""
                print(f"{file.stem:20} {mark:6} {row['status']:8} {said}{confidence}")
