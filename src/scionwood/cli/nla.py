"""scion nla: a model's activations in words, and words back to activations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import typer

from scionwood.cli import nla_look
from scionwood.cli.nla_look import AR, AV, BASE, DEVICE, JSON, RUN, SCALE, SEED, TEMPERATURE, WORDS, opened

app = typer.Typer(help="A model's activations in words, and words back to activations: the tools around the task nla.",
                  no_args_is_help=True, rich_markup_mode=None)

TEXTS = typer.Argument(..., metavar="TEXTS", help="JSON lines with a 'text' (and an 'id') on each, or a plain file, a text on each line.")


@app.command()
def extract(
    texts: Path = TEXTS,
    base: str = typer.Option("embedded", "--base", metavar="BASE", help="The model to read with: embedded, a folder or a hub name."),
    layer: Optional[int] = typer.Option(None, "--layer", min=0, show_default=False, help="Block whose output is taken, from 0 (default: at "
                                        "two thirds of the depth)."),
    out: Path = typer.Option(Path("vectors.parquet"), "--out", help="Parquet file to write; its sidecar goes beside it."),
    positions: str = typer.Option("last", "--positions", help="last (the chat template's last token), mean (over the text's own tokens), "
                                  "or how many positions of each bare text."),
    key: str = typer.Option("text", "--key", help="JSON lines: the key of the text."),
    max_tokens: int = typer.Option(2048, "--max-tokens", min=1, help="Longest text in tokens."),
    seed: int = typer.Option(0, "--seed", help="Seed of drawn positions."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or mps."),
    dtype: str = typer.Option("auto", "--dtype", help="auto, fp32 or bf16."),
) -> None:
    """Read texts with a model and keep the output of one block, raw, as Parquet. A killed extraction goes on where it stopped."""
    from scionwood.cli.common import quiet_libraries, say
    from scionwood.errors import UserError
    from scionwood.models.loading import base_identity
    from scionwood.tasks.nla.extract import default_layer, drop_above, extract_to
    from scionwood.tasks.nla.inputs import read_given
    from scionwood.tasks.nla.pair import Pair

    if positions not in ("last", "mean") and not (positions.isdecimal() and int(positions) > 0):
        raise UserError(f"--positions {positions}: expected last, mean, or a number")
    given = read_given(texts, key)
    quiet_libraries()
    pair = Pair(base, layer, None, device=device, dtype=dtype, echo=say)
    model = pair.model
    if layer is None:
        layer, why = default_layer(model.config.num_hidden_layers)
        say(why)
    drop_above(model, layer)
    found = extract_to(out, model, pair.renderer, [g.text for g in given], layer, ids=[g.id for g in given],
                       positions=int(positions) if positions.isdecimal() else positions, seed=seed, max_tokens=max_tokens, base=base,
                       base_hash=base_identity(base), echo=say)
    say(f"{out}: {len(found.ids)} vectors of {found.values.shape[1]} values")


@app.command()
def describe(
    texts: Path = TEXTS,
    out: Path = typer.Option(Path("described.jsonl"), "--out", help="JSON lines to write: every text that got both, with all its keys."),
    url: Optional[str] = typer.Option(None, "--url", show_default=False, help="OpenAI-compatible endpoint, up to and with /v1."),
    model: Optional[str] = typer.Option(None, "--model", show_default=False, help="Name by which the endpoint knows the model."),
    recorded: Optional[Path] = typer.Option(None, "--recorded", metavar="FILE", show_default=False,
                                            help="In place of an endpoint: lines of id, description, summary, or an earlier journal."),
    journal: Optional[Path] = typer.Option(None, "--journal", metavar="FILE", show_default=False,
                                           help="Every answer and refusal (default: beside --out, .journal.jsonl)."),
    sets: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="A key of [teacher.endpoint]: api_key_env, concurrency, "
                                   "budget_tokens, requests_per_minute, max_tokens, constrain, extra ..."),
    key: str = typer.Option("text", "--key", help="JSON lines: the key of the text."),
) -> None:
    """Have each text described twice, from the text alone: a description for the verbalizer, another sentence for the reconstructor."""
    from scionwood.cli.common import say
    from scionwood.errors import UserError
    from scionwood.files import write_json, write_jsonl
    from scionwood.settings import apply_sets, check
    from scionwood.tasks.nla import describe as d
    from scionwood.tasks.nla.inputs import read_given
    from scionwood.tasks.nla.wording import Limits
    from scionwood.teaching.endpoint import Endpoint
    from scionwood.teaching.journal import Journal

    given, limits, endpoint = read_given(texts, key), Limits(), None
    if recorded:
        if url or model or sets:
            raise UserError("--recorded: is read in place of an endpoint; leave out --url, --model and --set")
        described = d.recall(recorded, given, limits)
    else:
        if not url or not model:
            raise UserError("describe: name an endpoint with --url and --model, or a file of descriptions with --recorded")
        endpoint = check(apply_sets({"base_url": url, "model": model}, sets), Endpoint, "--set")
        with Journal(journal or out.with_suffix(".journal.jsonl")) as book:
            described = d.describe(endpoint, given, book, limits, lambda n: say(f"  {n} more answered") if n > 1 else None)
    write_jsonl(out, d.rows_of(given, described))
    write_json(out.with_suffix(".about.json"), d.about(endpoint, recorded.name if recorded else "", limits))
    for line in d.told(described):
        say(line)
    say(f"{out}: {sum(x.kept for x in described)} texts")


@app.command()
def verbalize(
    vectors: Path = typer.Argument(..., metavar="VECTORS", help="Parquet or safetensors of 'scion nla extract', or an .npy array (n, d)."),
    run: Optional[Path] = RUN, av: Optional[Path] = AV, base: Optional[str] = BASE, seed: Optional[int] = SEED,
    scale: Optional[float] = SCALE, tokens: int = WORDS, temperature: float = TEMPERATURE,
    samples: int = typer.Option(1, "--samples", min=1, help="Explanations of each vector; more than one needs a temperature."),
    device: str = DEVICE, as_json: bool = JSON,
) -> None:
    """Say vectors in words."""
    from scionwood.errors import UserError
    from scionwood.tasks.nla.inputs import read_rows

    if samples > 1 and not temperature:
        raise UserError("--samples: at temperature 0 all would be the same; name a --temperature above 0")
    pair = opened(run, av, None, base=base, seed=seed, scale=scale, device=device)
    pair.need_av()
    rows = read_rows(vectors, pair.width)
    values = rows.values.repeat(samples, axis=0)
    said = pair.av.verbalize(values, temperature=temperature, tokens=tokens, seeds=list(range(len(values))))
    for i, s in enumerate(said):
        name = rows.ids[i // samples]
        print(json.dumps({"id": name, "said": s.text, "complete": s.complete}, ensure_ascii=False) if as_json
              else f"{name}: {s.text or '(nothing)'}{'' if s.complete else ' …'}", flush=True)


@app.command()
def reconstruct(
    texts: Path = TEXTS,
    run: Optional[Path] = RUN, ar: Optional[Path] = AR, base: Optional[str] = BASE, seed: Optional[int] = SEED,
    layer: Optional[int] = typer.Option(None, "--layer", min=0, show_default=False, help="The block, where no sidecar says it."),
    out: Optional[Path] = typer.Option(None, "--out", show_default=False, help="File of vectors to write: .parquet, .safetensors or .npy."),
    against: Optional[Path] = typer.Option(None, "--against", metavar="VECTORS", show_default=False,
                                           help="True vectors of the same ids: print how close each one comes."),
    key: str = typer.Option("text", "--key", help="JSON lines: the key of the words, for example description or said."),
    device: str = DEVICE, as_json: bool = JSON,
) -> None:
    """Make vectors of words, and measure them against the true ones."""
    from scionwood.cli.common import say
    from scionwood.errors import UserError
    from scionwood.tasks.nla.inputs import read_given
    from scionwood.tasks.nla.rebuilt import measure, table, write

    if not out and not against:
        raise UserError("reconstruct: name a file to write with --out, or true vectors to measure with --against")
    given = read_given(texts, key)
    pair = opened(run, None, ar, base=base, seed=seed, layer=layer, device=device)
    values = pair.ar.reconstruct([g.text for g in given])
    if out:
        write(out, given, values, pair)
        say(f"{out}: {len(values)} vectors of {values.shape[1]} values; their length means nothing, their direction does")
    if against:
        found = measure(given, values, against, pair)
        print(json.dumps(found, ensure_ascii=False) if as_json else table(found))


app.command("read")(nla_look.read)
app.command("axis")(nla_look.axis)
app.command("steer")(nla_look.steer)
app.command("pack")(nla_look.pack)
