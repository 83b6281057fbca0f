"""The labels of the three jobs, and the actions that code derives from them. GUIDE.md says what each label means."""

INTENTS = ("write", "correct", "forget", "recall", "task", "chat", "other")

SAVE_KINDS = ("profile", "preference", "relationship", "decision", "lesson", "correction", "plan", "procedure", "project_fact", "unclear")
SKIP_KINDS = ("log", "commit", "chitchat", "transient", "secret", "instruction_to_memory")
KINDS = SAVE_KINDS + SKIP_KINDS

RELATIONS = ("same", "covered", "refines", "supersedes", "retracts", "stale", "unsure", "independent")

# relation -> (action on the stored memory, what becomes of the new fact)
ACTIONS = {
    "same": ("NONE", "drop"),
    "covered": ("NONE", "drop"),
    "refines": ("UPDATE", "merge"),
    "supersedes": ("UPDATE", "current"),
    "retracts": ("DELETE", "drop"),
    "stale": ("NONE", "history"),
    "independent": ("NONE", "keep"),
    "unsure": ("NONE", "keep_flagged"),
}


def decision_of(kind: str) -> str:
    """SAVE or SKIP: it follows from the kind, so a lesson or a correction can never be skipped."""
    return "SAVE" if kind in SAVE_KINDS else "SKIP"


def action_of(relation: str) -> str:
    """What a relation does to the stored memory: NONE, UPDATE or DELETE."""
    return ACTIONS[relation][0]


def fate_of(relations: list[str]) -> str:
    """What becomes of the new fact, given its relation to every candidate.

    The order is by what loses least: a fact that is already held, or that only takes something back, is dropped; one that
    replaces or extends something is kept in that way; else it is kept as it is.
    """
    fates = {ACTIONS[r][1] for r in relations}
    if {"same", "covered"} & set(relations) and not {"supersedes", "refines"} & set(relations):
        return "drop"
    for fate in ("current", "merge", "history", "keep_flagged"):
        if fate in fates:
            return fate
    return "drop" if "drop" in fates else "keep"
