"""Answers in their one canonical spelling, and back."""

from __future__ import annotations

import json

from scionwood.task import Case, Choices, Invalid
from scionwood.tasks.cerebellum.labels import INTENTS, KINDS, RELATIONS, decision_of


# The words that a model writes, where they are not the label itself. At every choice the options begin with different tokens (in
# the embedded base's tokenizer and in Qwen3's): so one token decides, and greedy decoding takes the likeliest label. With
# "same" and "supersedes" both beginning with "s", it would take the likelier *pair*.
SPOKEN = {
    "classify": {"chat": "smalltalk"},
    "memorize": {"profile": "person", "procedure": "howto", "project_fact": "project", "commit": "git", "chitchat": "smalltalk",
                 "log": "output"},
    "arbitrate": {"refines": "extends", "supersedes": "replaces", "retracts": "withdraws"},
}
MEANT = {job: {word: label for label, word in words.items()} for job, words in SPOKEN.items()}


def spoken(job: str, label: str) -> str:
    """The word that a model writes for a label."""
    return SPOKEN[job].get(label, label)


def meant(job: str, word):
    """The label that a written word stands for; the label's own name is understood too."""
    return MEANT[job].get(word, word) if isinstance(word, str) else word


def compact(value) -> str:
    """JSON without blanks: fewer tokens, and one spelling for each answer."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def text_of(job: str, reference) -> str:
    """The one text of an answer: what is trained, scored and shown."""
    if job == "classify":
        return compact({"intent": spoken(job, reference)})
    if job == "memorize":
        # "mixed" before "kind": each further key is written once below every value before it, and there are two of the one,
        # sixteen of the other
        return compact({"decision": decision_of(reference["kind"]), "mixed": reference["mixed"], "kind": spoken(job, reference["kind"])})
    return compact({"relation": spoken(job, reference)})


CHOICES = {
    "classify": Choices(tuple(text_of("classify", i) for i in INTENTS)),
    "memorize": Choices(tuple(text_of("memorize", {"kind": k, "mixed": m}) for k in KINDS for m in (False, True))),
    "arbitrate": Choices(tuple(text_of("arbitrate", r) for r in RELATIONS)),
}


def schema_of(job: str) -> dict:
    """The same answers as a JSON schema, for the decoder that writes JSON and for endpoints."""
    if job == "memorize":
        fields = {"decision": {"enum": ["SAVE", "SKIP"]}, "mixed": {"type": "boolean"}, "kind": {"enum": [spoken(job, k) for k in KINDS]}}
    else:
        name, values = ("intent", INTENTS) if job == "classify" else ("relation", RELATIONS)
        fields = {name: {"enum": [spoken(job, v) for v in values]}}
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def parse(case: Case, text: str):
    """Read an answer. Blanks and key order are free; a decision that contradicts its kind is invalid."""
    try:
        value = json.loads(text)
    except ValueError:
        return Invalid("not JSON")
    if not isinstance(value, dict):
        return Invalid("not a JSON object")
    if case.job == "classify":
        intent = meant("classify", value.get("intent"))
        return intent if intent in INTENTS else Invalid(f"intent {intent!r} is not in the list")
    if case.job == "arbitrate":
        relation = meant("arbitrate", value.get("relation"))
        return relation if relation in RELATIONS else Invalid(f"relation {relation!r} is not in the list")
    kind, mixed = meant("memorize", value.get("kind")), value.get("mixed")
    if kind not in KINDS:
        return Invalid(f"kind {kind!r} is not in the list")
    if not isinstance(mixed, bool):
        return Invalid("mixed is not true or false")
    if value.get("decision") != decision_of(kind):
        return Invalid(f"decision {value.get('decision')!r} contradicts kind '{kind}'")
    return {"kind": kind, "mixed": mixed}
