"""The sections of a duel's card and report that tell how it was held: the design's power, who took part, what an export cost, limits."""

from __future__ import annotations

from scionwood.evidence.blocks import Code, Items, Section, Table, numbers, words
from scionwood.evidence.format import ABSENT, between, code, listed, number, portable, several, signed
from scionwood.evidence.paired import BETTER, CANNOT_TELL, WORSE
from scionwood.tasks.lantern.duel.scoring import CORRECT, DISTINCT, OVERLAP, THERMOMETER
from scionwood.tasks.lantern.duel.told import Duel, share


def edges(duel: Duel) -> Section:
    """What quantisation cost, for a GGUF file beside its own run."""
    blocks: list = []
    for e in duel["edges"]:
        both = {e["run"], e["gguf"]}
        mine = [c for c in duel["comparisons"] if {c["first"], c["second"]} == both]
        rows = []
        for c in mine:
            sign = 1 if c["second"] == e["gguf"] else -1
            ends = sorted(sign * x for x in (c["low"], c["high"])) if c["low"] is not None else (None, None)
            words_of = {BETTER: "gained", WORSE: "lost"} if sign > 0 else {BETTER: "lost", WORSE: "gained"}
            verdict = words_of.get(c["verdict"], CANNOT_TELL)
            rows.append([code(c["metric"]), signed(sign * c["difference"]), between(*ends, signed), number(c["detectable"]), verdict])
        blocks.append(
            Table(
                f"{code(e['gguf'])} minus {code(e['run'])}, which it was exported from",
                words("measure") + numbers("difference", "95 % interval", "could have shown") + words("verdict"),
                rows,
            )
        )
    return Section("What the export cost", blocks)


def design(duel: Duel) -> Section:
    """What so many pairs can show, exactly by the binomial distribution."""
    rows = []
    for what, d in (
        ("one comparison per task", duel["design"]["tasks"]),
        ("every sample a comparison, as if independent", duel["design"]["comparisons"]),
    ):
        rows.append(
            [
                what,
                str(d["pairs"]),
                ABSENT if d["needed_wins"] is None else str(d["needed_wins"]),
                share(d["power"]),
                ABSENT if d["detectable"] is None else f"{100 * d['detectable']:.1f} %",
            ]
        )
    d = duel["design"]["tasks"]
    return Section(
        "What this design can show",
        [
            Table(
                "The sign test on pairs without ties, two-sided at 5 %",
                words("pairs") + numbers("number", "wins needed", f"power at {share(d['share'])} wins", "shown with 80 % power"),
                rows,
            ),
            f"To find {share(d['share'])} wins with 80 % power, {d['pairs_for_share']} pairs are needed "
            f"({d['pairs_for_share_one_sided']} one-sided). Samples of one task resemble each other, so the truth lies between "
            "the two rows; ties take pairs away. More tasks help more than more samples.",
        ],
    )


def making(duel: Duel) -> Section:
    """Who took part, under which sampling, on which tasks."""
    s, rows = duel["settings"], []
    for c in duel["contestants"]:
        p = c["sampling"]
        recorded = c["kind"] == "recorded"
        told = (
            [ABSENT] * 5
            if recorded
            else [f"{p['temperature']:g}", f"{p['top_p']:g}", f"{p['min_p']:g}", str(p["tokens"]), "yes" if p["keep_going"] else "no"]
        )
        what = c["options"].get("model") or portable(c["what"])
        rows.append([code(c["name"]), c["kind"], code(what + (f":{c['part']}" if c["part"] else "")), *told])
    kinds = listed([f"{n} {k}" for k, n in duel["tasks"]["kinds"].items()])
    leaks = duel["leaks"]
    highest = leaks["highest"]
    found = [
        f"{code(f['task'])} {'nearly repeats a prompt of' if f['how'] == 'prompt' else 'stands in'} {code(f['source'])} "
        f"({f['similarity']:.2f})"
        for f in leaks["found"]
    ]
    closest = (
        f" The closest prompt has {highest['similarity']:.2f} ({code(highest['task'])} and {code(highest['source'])})." if highest else ""
    )
    clean = (
        f"**Contaminated:** these tasks were allowed although they leak: {listed(found)}."
        if found
        else f"No task nearly repeats one (limit {leaks['near']:g})."
    )
    note = f" Every prompt was followed by: {code(s['note'])}." if s["note"] else ""
    return Section(
        "How it was held",
        [
            Table(
                "The contestants",
                words("contestant", "kind", "what") + numbers("temperature", "top-p", "min-p", "most tokens") + words("kept going"),
                rows,
            ),
            f"{several(duel['tasks']['count'], 'task')} ({kinds}), {several(s['samples'], 'answer')} to each, seed {s['seed']}.{note}",
            f"Decontamination: compared with {several(leaks['texts'], 'training text')}. {clean}{closest}",
            "Every figure follows from the files of this folder:",
            Code("bash", f"scion lantern duel --verify {duel['name']}"),
        ],
    )


def limits(duel: Duel) -> Section:
    """What the figures do not say."""
    texts = [
        "The measures of diversity see words, not meanings: two answers that say the same in other words count as two.",
        f"{code(CORRECT)} looks for a right answer's words; an answer that gives several may pass, and one in unforeseen words may not.",
        f"{code(DISTINCT)} and {code(OVERLAP)} depend on the temperature as much as on the model: compare contestants at one temperature, "
        "or match them.",
        f"{listed([code(k.NAME) for k in THERMOMETER])} of a model that was kept from ending its answers tell of text that it would not "
        "have written by itself.",
    ]
    if duel["settings"]["samples"] == 1:
        texts.append("One answer to each task: nothing can be said of the diversity between answers.")
    return Section("Limits", [Items(texts)])
