"""scion nla read, axis, steer, pack: looking into a model with a verbalizer and a reconstructor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import typer

RUN = typer.Option(None, "--run", metavar="RUN", show_default=False, help="A run of task nla; in place of --av and --ar.")
AV = typer.Option(None, "--av", metavar="FOLDER", show_default=False, help="A verbalizer: nla_meta.yaml with weights or an adapter.")
AR = typer.Option(None, "--ar", metavar="FOLDER", show_default=False, help="A reconstructor: the same, and a value head.")
BASE = typer.Option(None, "--base", metavar="BASE", show_default=False, help="The model that is looked into: embedded, a folder or a "
                    "hub name (default: what the run or the sidecar names).")
SEED = typer.Option(None, "--seed", show_default=False, help="Which seed of a run (default: the lowest).")
SCALE = typer.Option(None, "--scale", min=0.0, show_default=False, help="Norm of injected vectors, if not the sidecar's.")
WORDS = typer.Option(80, "--tokens", min=1, help="Longest explanation in tokens.")
TEMPERATURE = typer.Option(0.0, "--temperature", min=0.0, help="0 takes the likeliest word each time.")
DEVICE = typer.Option("auto", "--device", help="auto, cpu, cuda or mps.")
JSON = typer.Option(False, "--json", help="JSON in place of lines of text.")


def opened(run, av, ar, **more):
    """A pair from the options that all tools share."""
    from scionwood.cli.common import quiet_libraries, say
    from scionwood.tasks.nla.checkpoints import open_pair

    quiet_libraries()
    return open_pair(run, av, ar, echo=say, **more)


def read(
    text: str = typer.Argument(..., metavar="TEXT", help="The text, or @FILE."),
    run: Optional[Path] = RUN, av: Optional[Path] = AV, ar: Optional[Path] = AR, base: Optional[str] = BASE, seed: Optional[int] = SEED,
    scale: Optional[float] = SCALE,
    html: Optional[Path] = typer.Option(None, "--html", metavar="FILE", show_default=False, help="Write a page where one clicks a token."),
    plain: bool = typer.Option(False, "--plain", help="Read the bare text, without the chat template around it."),
    reply: int = typer.Option(0, "--reply", min=0, metavar="TOKENS", help="Let the base answer first, up to so many; read that too."),
    tokens: int = WORDS, temperature: float = TEMPERATURE, device: str = DEVICE, as_json: bool = JSON,
) -> None:
    """Read a text token by token: norm, explanation, and how much of the vector the explanation carries back."""
    import shutil
    import sys

    from scionwood.cli.common import say
    from scionwood.errors import UserError
    from scionwood.files import write_text
    from scionwood.tasks.nla import reading as r
    from scionwood.tasks.nla.reading_page import page

    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(f"{text[1:]}: cannot be read ({getattr(e, 'strerror', None) or e})") from None
    pair = opened(run, av, ar, base=base, seed=seed, scale=scale, device=device)
    if pair.positions == "mean":
        say("this pair was trained on means over whole texts; single tokens are unlike anything it has seen, so read them with doubt")
    found = r.read(pair, text, plain=plain, reply=reply, temperature=temperature, tokens=tokens, echo=say)
    if as_json:
        print(json.dumps(found.row(), ensure_ascii=False, indent=1))
    else:
        print(r.table(found, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
    if html:
        write_text(html, page(found))
        say(f"{html}: the page")


def axis(
    texts: list[Path] = typer.Argument(None, metavar="POSITIVE NEGATIVE | LABELLED...", show_default=False,
                                       help="Two files of texts; or, with --positive, JSON lines with a label on each (and a 'group' "
                                       "for those that belong together)."),
    positive: Optional[str] = typer.Option(None, "--positive", metavar="LABEL", show_default=False, help="The label that + stands for."),
    negative: Optional[str] = typer.Option(None, "--negative", metavar="LABEL", show_default=False,
                                           help="The label that - stands for, where there are more than two."),
    label: str = typer.Option("label", "--label", metavar="KEY", help="The key of the labels."),
    direction: Optional[Path] = typer.Option(None, "--direction", metavar="FILE", show_default=False,
                                             help="Take this direction (.pt, .safetensors) in place of making one; texts only measure it."),
    layer: Optional[int] = typer.Option(None, "--layer", min=0, show_default=False, help="The block of --direction, where its file does "
                                        "not say; without it, take this one and let dev choose none."),
    at: str = typer.Option("last", "--at", help="last: the chat template's last token; mean: over the text's own tokens."),
    run: Optional[Path] = RUN, av: Optional[Path] = AV, ar: Optional[Path] = AR, base: Optional[str] = BASE, seed: Optional[int] = SEED,
    out: Optional[Path] = typer.Option(None, "--out", metavar="FOLDER", show_default=False,
                                       help="Write axis.json, axis.svg and the direction."),
    randoms: int = typer.Option(3, "--randoms", min=0, help="Random directions that are verbalized beside it."),
    folds: int = typer.Option(5, "--folds", min=3, max=20, help="Parts of the texts: one chooses, one tests, the others fit."),
    tokens: int = WORDS, device: str = DEVICE, as_json: bool = JSON,
) -> None:
    """From two sets of texts to a direction per layer, measured on texts held out, and said in words in both signs."""
    from scionwood.cli.common import say
    from scionwood.tasks.nla import axis_told
    from scionwood.tasks.nla.axis import read_contrast
    from scionwood.tasks.nla.axis_made import make_axis, take_direction

    contrast = read_contrast(texts or [], positive, negative, label) if texts or not direction else None
    pair = opened(run, av, ar, base=base, seed=seed, device=device)
    if direction:
        made = take_direction(pair, direction, contrast, layer, at, randoms=randoms, tokens=tokens)
    else:
        made = make_axis(pair, contrast, layer, at, folds=folds, randoms=randoms, tokens=tokens, echo=say)
    print(json.dumps(made.row(), ensure_ascii=False, indent=1) if as_json else axis_told.whole(made))
    if out:
        for path in axis_told.write(made, out):
            say(f"{path}: written")


def steer(
    prompt: str = typer.Argument(..., metavar="PROMPT", help="What the model is asked."),
    edited: Optional[str] = typer.Option(None, "--edited", metavar="WORDS", show_default=False, help="The words after the edit."),
    replace: list[str] = typer.Option([], "--replace", metavar="OLD=NEW", help="An edit of the words; may be given again."),
    original: Optional[str] = typer.Option(None, "--original", metavar="WORDS", show_default=False,
                                           help="The words before the edit (default: what the verbalizer says at the prompt's end)."),
    strength: list[float] = typer.Option([0.5], "--strength", help="Norm of what is added over the median norm there; may be given again."),
    where: str = typer.Option("all", "--where", help="Tokens it is added at: all, prompt, last (from the prompt's last on), reply."),
    at: list[int] = typer.Option([], "--at", metavar="POSITION", help="In place of --where: a token's number; negative: from the end."),
    run: Optional[Path] = RUN, av: Optional[Path] = AV, ar: Optional[Path] = AR, base: Optional[str] = BASE, seed: Optional[int] = SEED,
    randoms: int = typer.Option(1, "--randoms", min=0, help="Random edits of the same norm beside each."),
    reply: int = typer.Option(60, "--reply", min=1, help="Longest answer in tokens."),
    temperature: float = TEMPERATURE, device: str = DEVICE, as_json: bool = JSON,
) -> None:
    """Edit the words that stand for an activation, add the edit as a vector, and see what the model then says."""
    from scionwood.errors import UserError, nearest
    from scionwood.tasks.nla import steer as s
    from scionwood.tasks.nla.generating import WHERE

    if where not in WHERE:
        raise UserError(f"--where {where}: not a place{nearest(where, WHERE)} (known: {', '.join(WHERE)})")
    pair = opened(run, av, ar, base=base, seed=seed, device=device)
    words = original or s.words_of(pair, prompt, 80)
    new = s.edited_words(words, edited, replace)
    found = s.steer(pair, prompt, words, new, strengths=strength, where=at or where, tokens=reply, temperature=temperature, randoms=randoms)
    print(json.dumps(found.row(), ensure_ascii=False, indent=1) if as_json else s.told(found))


def pack(
    out: Path = typer.Argument(..., metavar="FOLDER", help="Where av/ and ar/ are written."),
    run: Optional[Path] = RUN, av: Optional[Path] = AV, ar: Optional[Path] = AR, base: Optional[str] = BASE, seed: Optional[int] = SEED,
    whole: bool = typer.Option(False, "--whole", help="Whole weights with the adapters merged in, which other clients of the layout read."),
) -> None:
    """Write verbalizer and reconstructor as folders in the published layout: nla_meta.yaml beside adapters, or beside whole weights."""
    from scionwood.cli.common import say
    from scionwood.tasks.nla.packing import pack as write

    for path in write(opened(run, av, ar, base=base, seed=seed, device="cpu", dtype="fp32"), out, whole):
        say(f"{path}: written")
