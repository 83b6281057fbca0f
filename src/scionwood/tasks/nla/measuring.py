"""The measurements of an NLA run as stages: rivals, round trip, untrained verbalizer, ceilings, controls, probes, and further looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Sequence

import numpy as np

from scionwood import files
from scionwood.tasks.nla import fve, probes, training
from scionwood.tasks.nla.answers import Told
from scionwood.tasks.nla.baselines import GroupMean, Predictor, RidgeTfidf, all_predictors, mean_states
from scionwood.tasks.nla.further import GOLD, GOLD_SUMMARY, PAIR
from scionwood.tasks.nla.training import SHUFFLED

if TYPE_CHECKING:
    from scionwood.tasks.nla.flow import NlaFlow
    from scionwood.tasks.nla.texts import Text

RANDOM_SEED = 0


@dataclass(frozen=True)
class System:
    """A measured system: its rows lie in ``predictions/NAME.jsonl``."""

    name: str
    kind: str
    about: str


CEILINGS = (
    System(GOLD, "ceiling", "the reconstructor reads the description that the text's author wrote"),
    System(GOLD_SUMMARY, "ceiling", "the reconstructor reads the one-sentence summary that the text's author wrote"),
)
GOLD_PLAIN = System("ar-on-gold-without-lead", "ceiling", "the reconstructor reads that description without language and category "
                    "before it")
CONTROLS = (
    System("shuffled-in-category", "control", "the verbalizer is given the vector of another text of the same category and language"),
    System("permuted", "control", "the verbalizer is given the vector of any other text"),
    System("random-vectors", "control", "the verbalizer is given a random direction"),
    System("mean-vector", "control", "the verbalizer is given the mean of the training vectors, whatever the text"),
    System("generic-text", "control", "the reconstructor reads one text that says nothing in particular, whatever the vector"),
)
PROBES = (
    System("sentences-shuffled", "probe", "the reconstructor reads the verbalizer's sentences in another order"),
    System("ridge-on-said", "probe", "the ridge regression of ridge-tfidf reads what the verbalizer said, in place of the reconstructor"),
)
PARAPHRASED = System("paraphrased", "probe", "the reconstructor reads what the verbalizer said, in the words of another model")
SUPERVISED = System("supervised-only", "probe", "the round trip before reinforcement")
TRAINED_CONTROL = System(SHUFFLED, "control", "a verbalizer that was trained on the vectors of other texts")
UNTRAINED = System("untrained-av", "base", "the base without an adapter under the verbalizer's prompt; the trained reconstructor reads "
                   "what it says")


def named_rivals(flow: NlaFlow, encode=None) -> list[Predictor]:
    """The rivals, unfitted. Without ``encode`` they only have names: enough to list them."""
    return all_predictors(encode or (lambda texts: np.zeros((len(texts), 1))))


def rival_systems(flow: NlaFlow) -> list[System]:
    """The rivals as systems, each with what it is allowed to read."""
    told = {True: " (as it is: no mean is brought to a longer norm)", False: ""}
    return [System(r.name, "rival", r.about + told[isinstance(r, GroupMean)]) for r in named_rivals(flow)]


def systems(flow: NlaFlow) -> list[System]:
    """Every system of the run but the round trip itself, in the order in which they are listed."""
    more = [TRAINED_CONTROL] if flow.recipe.evidence.shuffled_control else []
    probed = [*([SUPERVISED] if flow.options.reinforce.on else []), *PROBES, *([PARAPHRASED] if flow.options.paraphrase else [])]
    return [UNTRAINED, *rival_systems(flow), *ceilings(flow), *CONTROLS, *more, *probed]


def ceilings(flow: NlaFlow) -> list[System]:
    """The reconstructor on words by hand."""
    return [*CEILINGS, *([GOLD_PLAIN] if flow.options.lead else [])]


def first_seed(flow: NlaFlow) -> int:
    """The seed whose adapters stand in all that is measured once."""
    return flow.recipe.train.seeds[0]


# -- rivals -----------------------------------------------------------------------------------------------------------------


def rival_rows(flow: NlaFlow, predictor: Predictor, file: str) -> None:
    """Rows of a fitted predictor on the test texts. Means stay as they are; all others are brought to the norm, as the round trip is."""
    texts = flow.task.split("test")
    if isinstance(predictor, GroupMean):  # in float64: the training mean has an FVE of exactly 0
        flow.write_rows(file, fve.group_means(predictor.values, predictor.groups, [predictor.group(t) for t in texts]))
    else:
        flow.write_rows(file, fve.unit(predictor.predict(texts)), Told(said=flow.fields("test", "description")))


def rivals(flow: NlaFlow) -> None:
    """The stage that fits every rival on the training vectors and measures it."""
    names = [r.name for r in named_rivals(flow)]

    def work():
        encode = mean_states(flow.load_base(flow.measuring), flow.renderer.tokenizer)
        for rival in named_rivals(flow, encode):
            flow.run.echo(f"  {rival.name}: {rival.about}")
            rival.fit(flow.task.split("train"), flow.values("train"), flow.task.split("dev"), flow.values("dev"))
            rival_rows(flow, rival, f"predictions/{rival.name}.jsonl")

    inputs = {"vectors": flow.run.output_hash("extract"), "data": flow.run.output_hash("prepare"), "rivals": names}
    flow.run.stage("rivals", inputs, [f"predictions/{n}.jsonl" for n in names], work)


# -- the round trip ---------------------------------------------------------------------------------------------------------


def verbalized(flow: NlaFlow, verbalizer) -> Told:
    """What a verbalizer says of every test vector, and its losses on the author's descriptions (see ``losses``)."""
    import time

    values = flow.values("test")
    begin = time.perf_counter()
    said = verbalizer.verbalize(values, tokens=flow.options.tokens)
    ms = (time.perf_counter() - begin) * 1000 / len(values)
    return Told([s.text for s in said], [s.complete for s in said], losses(flow, verbalizer, values), [ms] * len(values))


def losses(flow: NlaFlow, verbalizer, values: np.ndarray) -> dict[str, list[float]]:
    """Mean losses of the author's descriptions with the true vectors, any strangers', and strangers' of the same kind; where descriptions
    have a lead, also of their own tokens alone."""
    cases, gold = flow.task.cases("test"), flow.fields("test", "description")
    given = {"": values, "_any": values[probes.strangers(cases, within=False)], "_within": values[probes.strangers(cases, within=True)]}
    tokens = {name: verbalizer.token_losses(v, gold) for name, v in given.items()}
    out = {f"loss{name}": [float(t.mean()) for t in of] for name, of in tokens.items()}
    if flow.options.lead:
        led = [lead_tokens(verbalizer, t) for t in flow.task.split("test")]
        out |= {f"own{name}": [float(t[n:].mean()) for t, n in zip(of, led)] for name, of in tokens.items()}
    return out


def lead_tokens(verbalizer, text: Text) -> int:
    """How many tokens of a reply belong to its opening tag and its lead."""
    from scionwood.models.trees import common_prefix
    from scionwood.tasks.nla.task import lead_of
    from scionwood.tasks.nla.template import av_answer

    whole, lead = (np.array(av_answer(verbalizer.renderer, verbalizer.marker, t)) for t in (text.description, lead_of(text)))
    return common_prefix(whole, lead)


def prove(flow: NlaFlow, stage: str, file: str, av: str | None, ar: str) -> None:
    """The stage that measures a verbalizer with a reconstructor on the test vectors."""
    def work():
        told = verbalized(flow, training.load_verbalizer(flow, av))
        flow.write_rows(file, fve.unit(training.load_reconstructor(flow, flow.run.path("adapter", ar)).reconstruct(told.said)), told)

    inputs = {"vectors": flow.run.output_hash("extract"), "data": flow.run.output_hash("prepare"), "tokens": flow.options.tokens,
              "scale": flow.scale, "av": flow.weights(av) if av else flow.base_hash, "ar": flow.weights(ar),
              "dtype": [flow.recipe.train.dtype, flow.recipe.evidence.dtype]}
    flow.run.stage(stage, inputs, [file], work)


def round_trip(flow: NlaFlow, seed: int) -> None:
    """The stage that measures the pair of one seed."""
    av, ar = flow.adapters(seed)
    prove(flow, f"prove-{seed}", f"predictions/{PAIR}-{seed}.jsonl", av, ar)


def untrained(flow: NlaFlow) -> None:
    """What else the first seed's reconstructor reads: the base without adapter, the verbalizer that learnt from shuffled vectors; and the
    pair as it was before reinforcement."""
    seed = first_seed(flow)
    ar = flow.adapters(seed)[1]
    prove(flow, "untrained", f"predictions/{UNTRAINED.name}.jsonl", None, ar)
    if flow.recipe.evidence.shuffled_control:
        training.verbalizer(flow, SHUFFLED, seed)
        prove(flow, f"prove-{SHUFFLED}", f"predictions/{SHUFFLED}.jsonl", SHUFFLED, ar)
    if flow.options.reinforce.on:
        prove(flow, f"prove-{SUPERVISED.name}", f"predictions/{SUPERVISED.name}.jsonl", f"av-{seed}", f"ar-{seed}")


# -- ceilings, controls, probes ---------------------------------------------------------------------------------------------


def beside(flow: NlaFlow) -> None:
    """The stage of all that needs no training of its own: ceilings, controls and probes, with the first seed's adapters."""
    seed = first_seed(flow)
    av, ar = flow.adapters(seed)
    names = [s.name for s in (*ceilings(flow), *CONTROLS, *PROBES)]

    def work():
        reader, writer = training.load_reconstructor(flow, flow.run.path("adapter", ar)), training.load_verbalizer(flow, av)
        cases, width = flow.task.cases("test"), flow.values("test").shape[1]
        by_case = {r["case"]: r["answer"]["said"] for r in files.read_jsonl(flow.run.path("predictions", f"{PAIR}-{seed}.jsonl"))}
        said = [by_case[c.id] for c in cases]

        def rows(name: str, words: Sequence[str], vectors: np.ndarray | None = None) -> None:
            found = fve.unit(reader.reconstruct(words)) if vectors is None else vectors
            flow.write_rows(f"predictions/{name}.jsonl", found, Told(said=words))

        rows(GOLD, flow.fields("test", "description"))
        rows(GOLD_SUMMARY, flow.fields("test", "summary"))
        if flow.options.lead:
            rows(GOLD_PLAIN.name, flow.task.plain("test"))
        for name, within in (("shuffled-in-category", True), ("permuted", False)):
            rows(name, [said[j] for j in probes.strangers(cases, within)])
        drawn = writer.verbalize(probes.random_vectors(len(cases), width, RANDOM_SEED), tokens=flow.options.tokens)
        rows("random-vectors", [s.text for s in drawn])
        of_mean, = writer.verbalize(flow.yardstick.spread.mean[None], tokens=flow.options.tokens)
        rows("mean-vector", [of_mean.text] * len(cases))
        rows("generic-text", [probes.GENERIC] * len(cases))
        rows("sentences-shuffled", [probes.shuffled_sentences(s, c.id) for s, c in zip(said, cases)])
        ridge = fitted_ridge(flow)
        spoken = [replace(t, description=s) for t, s in zip(flow.task.split("test"), said)]
        rows("ridge-on-said", said, fve.unit(ridge.predict(spoken)))

    inputs = {"pair": flow.run.output_hash(f"prove-{seed}"), "av": flow.weights(av), "ar": flow.weights(ar), "names": names,
              "vectors": flow.run.output_hash("extract"), "data": flow.run.output_hash("prepare"), "tokens": flow.options.tokens,
              "random": RANDOM_SEED, "generic": probes.GENERIC}
    flow.run.stage("beside", inputs, [f"predictions/{n}.jsonl" for n in names], work)
    if flow.options.paraphrase:
        paraphrased(flow, seed, ar)


def fitted_ridge(flow: NlaFlow, keep: Sequence[int] | None = None, dev_keep: Sequence[int] | None = None) -> RidgeTfidf:
    """The ridge from TF-IDF, fitted on the training texts or on those at the places ``keep``."""
    train, dev = flow.task.split("train"), flow.task.split("dev")
    keep = list(range(len(train)) if keep is None else keep)
    dev_keep = list(range(len(dev)) if dev_keep is None else dev_keep)
    return RidgeTfidf().fit([train[i] for i in keep], flow.values("train")[keep], [dev[i] for i in dev_keep], flow.values("dev")[dev_keep])


def paraphrased(flow: NlaFlow, seed: int, ar: str) -> None:
    """The stage that has an endpoint say the descriptions in other words. One that it fails on stays as it is, and is told."""
    file, pair = f"predictions/{PARAPHRASED.name}.jsonl", flow.run.output_hash(f"prove-{seed}")

    def work():
        from scionwood.teaching.endpoint import Request, ask_all
        from scionwood.teaching.journal import OK, Journal

        rows = files.read_jsonl(flow.run.path("predictions", f"{PAIR}-{seed}.jsonl"))
        asked = [Request(r["case"], [{"role": "user", "content": probes.PARAPHRASE.format(text=r["answer"]["said"])}])
                 for r in rows if r["answer"]["said"]]
        with Journal(flow.run.path("data", "paraphrases.jsonl")) as journal:
            got = ask_all(flow.options.paraphrase, asked, journal)
        words = [got[r["case"]]["text"] if r["case"] in got and got[r["case"]]["status"] == OK else r["answer"]["said"] for r in rows]
        reader = training.load_reconstructor(flow, flow.run.path("adapter", ar))
        flow.write_rows(file, fve.unit(reader.reconstruct(words)), Told(said=words))
        return {"asked": len(asked), "failed": sum(row["status"] != OK for row in got.values())}

    inputs = {"pair": pair, "ar": flow.weights(ar), "prompt": probes.PARAPHRASE,
              "endpoint": flow.options.paraphrase.model_dump(mode="json")}
    flow.run.stage("paraphrased", inputs, [file], work)
