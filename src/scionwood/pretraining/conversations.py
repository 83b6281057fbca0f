"""Labelled documents turned into conversations, so that the base follows its chat template.

Each reader takes one document of a source and yields lists of messages. Only what the source itself states is used: the
intent that it names, the relation that it gives, the translation, the answer. A document that does not have the
expected form yields nothing.
"""

import json
import random
import re
from typing import Callable, Iterator

Conversation = list[dict]
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which JSON's escapes can spell and UTF-8 cannot


def chat(system: str | None, *turns: str) -> Conversation:
    """Messages from a system text and alternating user and assistant turns."""
    head = [{"role": "system", "content": system}] if system else []
    return head + [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(turns)]


def compact(value) -> str:
    """JSON without blanks, as the tasks' answers are written."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def clinc(text: str, rng: random.Random) -> Iterator[Conversation]:
    """CLINC: a request and its intent, as JSON or as "request -> intent"."""
    for line in text.split("\n"):
        if line.startswith("{"):
            row = json.loads(line)
            asked, intent = row["text"], row["intent"]
        elif " -> " in line:
            asked, intent = line.rsplit(" -> ", 1)
        else:
            continue
        yield chat("Name the intent of the request as JSON.", asked, compact({"intent": intent}))


def request_then_json(text: str, rng: random.Random) -> Iterator[Conversation]:
    """Snips and NLU evaluation: a request on one line, its intent and slots as JSON on the next."""
    lines = text.split("\n")
    for asked, answer in zip(lines, lines[1:]):
        if answer.startswith("{") and not asked.startswith("{"):
            value = json.loads(answer)
            if rng.random() < 0.5:
                yield chat("Name the intent of the request as JSON.", asked, compact({"intent": value["intent"]}))
            else:
                yield chat("Turn the request into JSON: its intent, then its slots.", asked, compact(value))


def emotions(text: str, rng: random.Random) -> Iterator[Conversation]:
    """GoEmotions: a comment on one line, its emotions in brackets on the next."""
    lines = text.split("\n")
    for said, label in zip(lines, lines[1:]):
        if re.fullmatch(r"\([a-z, ]+\)", label):
            yield chat("Name the emotion of the comment as JSON.", said, compact({"emotion": label[1:-1]}))


def arbitration(stored: str, new: str, relation: str) -> Conversation:
    """How a new text stands to a stored one: says the same, says less, adds detail, overtakes it, or has no bearing on it."""
    return chat("How does the new text stand to the stored one? Answer as JSON.", f"new: {new}\nstored: {stored}",
                compact({"relation": relation}))


def nearest(text: str, others: list[str]) -> str:
    """The text of ``others`` that shares the most words with ``text``: what is unrelated should not be told by its words alone."""
    words = set(text.lower().split())
    return max(others, key=lambda other: len(words & set(other.lower().split())))


FORWARDS = {"entailment": "covered", "neutral": "extends", "contradiction": "replaces"}  # the second statement is the new one
BACKWARDS = FORWARDS | {"entailment": "extends"}  # the first is; a neutral pair says nothing of this direction and is left out


def inference(text: str, rng: random.Random) -> Iterator[Conversation]:
    """e-SNLI: two statements, their relation and the reason: asked for the label, label and reason, or as an arbitration."""
    pairs = re.findall(r"1\. (.*)\n2\. (.*)\nRelation: (\w+) \([^)]*\)\. ?(.*)", text)
    for first, second, label, why in pairs:
        asked, kind = f"first: {first}\nsecond: {second}", rng.random()
        if kind < 0.2:
            yield chat("How does the second note relate to the first? Answer as JSON.", asked, compact({"relation": label}))
        elif kind < 0.35:
            yield chat("How does the second note relate to the first? Say why.", asked, f"{label}: {why}")
        others = [b for a, b, *_ in pairs if a != first]
        if others and rng.random() < 0.5:
            yield arbitration(first, nearest(first, others), "independent")
        if label in FORWARDS:
            yield arbitration(first, second, FORWARDS[label])
        if label in ("entailment", "contradiction") and rng.random() < 0.5:
            yield arbitration(second, first, BACKWARDS[label])


def translations(text: str, rng: random.Random) -> Iterator[Conversation]:
    """Tatoeba pairs: translation both ways, and whether two notes say the same (other pairs of the document are the no)."""
    lines = text.split("\n")
    pairs = list(zip(lines[0::2], lines[1::2]))
    for i, (a, b) in enumerate(pairs):
        way = rng.random()
        if way < 0.5:
            yield chat("Translate: Chinese to English, English to Chinese.", a, b)
        else:
            said, other = pairs[rng.randrange(len(pairs))] if way < 0.75 and len(pairs) > 1 else (a, b)
            same = other == b or said == a  # one sentence may have several translations
            yield arbitration(a, other, "same" if same else "independent")
    yield from matching_translations(text, rng)


def rewordings(text: str, rng: random.Random) -> Iterator[Conversation]:
    """WikiSplit: one sentence and the same content in other words, mostly two shorter sentences.

    The source itself says how the texts lie to each other: whole and rewording say the same, the first short sentence says
    less than the whole and the whole says more than it, and the texts of another pair say something else.
    """
    pairs = re.findall(r"(.*)\nIn other words: (.*)", text)
    for whole, reworded in pairs:
        if rng.random() < 0.15:
            yield chat("Say it in other words.", whole, reworded)
        part = re.split(r"(?<=[a-z)]\.) (?=[A-Z])", reworded)[0]
        others = [b for a, b in pairs if a != whole]  # the same sentence may stand there twice, split in two ways
        possible = ["same"] + ["less", "more"] * (part != reworded) + ["different"] * bool(others)
        for relation in rng.sample(possible, min(2, len(possible))):
            unrelated = nearest(whole, others) if others else ""
            notes = {"same": (whole, reworded), "less": (whole, part), "more": (part, whole), "different": (whole, unrelated)}
            first, second = notes[relation]
            if rng.random() < 0.2:
                yield chat("How does the second note relate to the first? Answer as JSON.", f"first: {first}\nsecond: {second}",
                           compact({"relation": relation}))
            yield arbitration(first, second, {"same": "same", "less": "covered", "more": "extends", "different": "independent"}[relation])


def matching(text: str, rng: random.Random) -> Iterator[Conversation]:
    """Short sentences, one a line: repeat one, or find among several the one that comes again. It teaches looking back."""
    lines = [line for line in text.split("\n") if 3 < len(line) < 160]
    for i in range(0, len(lines) - 2, 3):
        notes = lines[i : i + 3]
        if len(set(notes)) < 3:  # then two answers would be right
            continue
        wanted = rng.randrange(3)
        if rng.random() < 0.4:
            yield chat("Repeat the note.", notes[wanted], notes[wanted])
        else:
            listed = "\n".join(f"{name}: {note}" for name, note in zip("abc", notes))
            yield chat("Which note comes again at the end? Answer as JSON.", f"{listed}\nend: {notes[wanted]}",
                       compact({"note": "abc"[wanted]}))


def matching_translations(text: str, rng: random.Random) -> Iterator[Conversation]:
    """Tatoeba pairs: among three sentences, the one whose translation stands at the end."""
    lines = text.split("\n")
    pairs = list(zip(lines[0::2], lines[1::2]))
    for i in range(0, len(pairs) - 2, 3):
        three, wanted, side = pairs[i : i + 3], rng.randrange(3), rng.randrange(2)
        if len({a for a, _ in three}) < 3 or len({b for _, b in three}) < 3:
            continue
        listed = "\n".join(f"{name}: {p[side]}" for name, p in zip("abc", three))
        yield chat("Which note says the same as the end? Answer as JSON.", f"{listed}\nend: {three[wanted][1 - side]}",
                   compact({"note": "abc"[wanted]}))


def reading(text: str, rng: random.Random) -> Iterator[Conversation]:
    """CMRC and DRCD: the opening of a passage, then up to four questions whose answers stand in it, in one conversation."""
    passage, *rest = re.split(r"\n问：", text)
    shown = passage[:300]
    turns = [r.strip().split("\n答：") for r in rest]
    turns = [t for t in turns if len(t) == 2 and t[1] and t[1] in shown]
    if turns:
        question, answer = turns[0]
        yield chat("根据短文回答问题。", f"{shown}\n{question}", answer, *[x for t in turns[1:4] for x in t])


def motives(text: str, rng: random.Random) -> Iterator[Conversation]:
    """Event2Mind: an event and why the person does it."""
    for event, why, feels in re.findall(r"^(.*?\.) Why: (.*?)\. (\w+ feels .*?)\.", text, re.M):
        yield chat("Why does the person do this?", event, why)


def dialogue(user: str, assistant: str) -> Callable[[str, random.Random], Iterator[Conversation]]:
    """A reader for dialogues whose lines open with the two given names; other lines (JSON states) end the dialogue."""

    def read(text: str, rng: random.Random) -> Iterator[Conversation]:
        turns: list[str] = []
        for line in text.split("\n"):
            name, found, said = line.partition("：" if "：" in line[:4] else ": ")
            expected = (user, assistant)[len(turns) % 2]
            if not found or name != expected:
                break
            turns.append(said)
        turns = turns[: len(turns) - len(turns) % 2]
        if len(turns) >= 2:
            yield chat(None, *turns)

    return read


READERS: dict[str, Callable[[str, random.Random], Iterator[Conversation]]] = {
    "clinc_oos": clinc,
    "snips_nlu": request_then_json,
    "nlu_evaluation": request_then_json,
    "goemotions": emotions,
    "esnli": inference,
    "tatoeba_en_zh": translations,
    "tatoeba_en": matching,
    "common_voice": matching,
    "tencent_chat_zh": matching,
    "wiki_split": rewordings,
    "cmrc_drcd": reading,
    "event2mind": motives,
    "sgd": dialogue("User", "Assistant"),
    "taskmaster": dialogue("User", "Assistant"),
    "crosswoz": dialogue("用户", "助手"),
}


def is_whole(messages: Conversation) -> bool:
    """Whether every turn says something: a source may hold empty fields, or other things than text in them."""
    return all(isinstance(m["content"], str) and m["content"].strip() and not SURROGATE.search(m["content"]) for m in messages)


def conversations(source: str, text: str) -> list[Conversation]:
    """The conversations that one document of a source gives; the same document always gives the same ones."""
    reader = READERS.get(source)
    if reader is None:
        return []
    try:
        return [c for c in reader(text, random.Random(text)) if is_whole(c)]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):  # a line of another form: left to plain text
        return []
