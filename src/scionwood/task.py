"""The contract between a task and everything else.

A task is a job: its cases, its prompt, what a legal answer is, how an answer is scored, its rivals. The core never imports
a task; it finds them by entry point (group ``scionwood.tasks``), so a stranger's package can add one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from scionwood.errors import UserError, nearest

if TYPE_CHECKING:
    from scionwood.flow import Flow
    from scionwood.serving.routes import Route
    from scionwood.systems.base import Rival

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Case:
    """One input with its reference.

    ``source`` names where the case comes from: splits are grouped by it and intervals resample it. ``job`` is the part of
    the task that the case belongs to (a task with one job uses its own name). ``parent`` is the id of the record that the
    case is a part of, for tasks that decide one record in several cases; else its own id.
    """

    id: str
    source: str
    job: str
    input: dict[str, Any]
    reference: Any
    lang: str = "en"
    slices: tuple[str, ...] = ()
    parent: str = ""

    def record(self) -> str:
        return self.parent or self.id


@dataclass(frozen=True)
class Choices:
    """The answer is one of these strings."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class JsonSchema:
    """The answer is a JSON value under this schema, written compactly (no blanks between tokens)."""

    schema: dict[str, Any]


@dataclass(frozen=True)
class Grammar:
    """The answer is a text of this grammar, in llguidance's Lark format, with nothing before or after it."""

    lark: str

    def __repr__(self) -> str:
        import hashlib  # a grammar may be long, and every case has one

        return f"Grammar({hashlib.sha256(self.lark.encode()).hexdigest()})"


@dataclass(frozen=True)
class Invalid:
    """What ``parse`` returns for an answer that is not legal."""

    reason: str


@dataclass(frozen=True)
class ScoredRow:
    """A case, one system's answer to it, and its scores. ``answer`` is None unless ``status`` is ok or gated.

    ``confidence`` is the system's own probability of its answer, where it has one.
    """

    case: Case
    answer: Any
    status: str
    scores: dict[str, float]
    latency_ms: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Metric:
    """A figure over rows.

    ``function`` takes the rows of one system (already filtered by ``job``) and returns the figure, or None where it is not
    defined (no such case). It must be pure, so that rows can be resampled. ``proportion`` names the score (0 or 1 per row)
    whose mean the figure is, where it is one: such figures get Wilson intervals and exact McNemar tests.
    ``better`` is "higher" or "lower". ``rows`` optionally narrows the rows before the function sees them.
    """

    name: str
    function: Callable[[Sequence[ScoredRow]], float | None]
    better: str = "higher"
    job: str | None = None
    proportion: str | None = None
    rows: Callable[[ScoredRow], bool] | None = None
    about: str = ""

    def select(self, rows: Sequence[ScoredRow]) -> list[ScoredRow]:
        return [r for r in rows if (self.job is None or r.case.job == self.job) and (self.rows is None or self.rows(r))]


def proportion(name: str, score: str, **kw) -> Metric:
    """A metric that is the mean of a 0/1 score over the rows that carry it."""

    def mean(rows: Sequence[ScoredRow]) -> float | None:
        values = [r.scores[score] for r in rows if score in r.scores]
        return sum(values) / len(values) if values else None

    return Metric(name, mean, proportion=score, **kw)


class Task(ABC):
    """A job. Subclass it, and name the subclass in the entry-point group ``scionwood.tasks``."""

    name: str
    primary: str  # the one metric fixed in advance
    summary: str = ""
    # the rival that a control may equal and never beat; {control: rival} where each has its own, "*" for all others
    chance: str | Mapping[str, str] = "majority"

    @abstractmethod
    def cases(self, split: str) -> list[Case]:
        """The cases of "train", "dev" or "test"."""

    @abstractmethod
    def messages(self, case: Case) -> list[dict[str, str]]:
        """The prompt as chat messages (system, user). The part that many cases share comes first."""

    @abstractmethod
    def target(self, case: Case) -> str:
        """The reference as the text that a model should write."""

    @abstractmethod
    def constraint(self, case: Case) -> Choices | JsonSchema | Grammar | None:
        """What a legal answer looks like; None for free text."""

    @abstractmethod
    def parse(self, case: Case, text: str) -> Any | Invalid:
        """The answer that a text stands for."""

    @abstractmethod
    def score(self, case: Case, answer: Any | None) -> dict[str, float]:
        """Scores of one answer; None stands for any failure (time-out, refusal, invalid) and must score as wrong."""

    @abstractmethod
    def metrics(self) -> list[Metric]: ...

    def rivals(self) -> list[Rival]:
        """Trivial systems that the adapter has to beat."""
        return []

    def label(self, case: Case, answer: Any) -> str:
        """The answer as a short label, for confusion tables and label-based rivals."""
        return str(answer)

    def more(self, case: Case) -> list[Case]:
        """Further training cases that follow from one by the task's own rules. The adapter alone is trained on them."""
        return []

    def gate(self, case: Case) -> Any | None:
        """A deterministic answer given before any system is asked, or None. The same for every system."""
        return None

    def watch(self, renderer, settings, autocast) -> Callable[[Any, int, dict | None], dict]:
        """What looks at the model while it trains (``training.settings.Watch``): model, step and the look at step 0 to figures.
        For tasks that write free text; others have nothing that could collapse."""
        raise UserError(f"task '{self.name}': has nothing to watch while it trains; remove train.watch.every")

    def flow(self) -> type[Flow] | None:
        """A subclass of ``scionwood.flow.Flow`` for a task with stages or systems of its own; None: the flow as it is."""
        return None

    def default(self, case: Case) -> Any:
        """The answer that loses nothing, given where a system fails in production."""
        return None

    def routes(self) -> list[Route]:
        """The typed routes of a sidecar. None: one for each job, derived from the test cases and the legal answers."""
        return []

    def export(self, case: Case) -> dict[str, Any]:
        """What ``scion show`` and the report print of a case."""
        return {"id": case.id, "job": case.job, **case.input, "reference": case.reference}

    def data_files(self) -> list:
        """The files (paths) that the cases come from, for the hashes in the lock file."""
        return []


@dataclass
class TaskInfo:
    """A task that an installed package names, not yet imported."""

    name: str
    package: str
    error: str = ""
    load: Callable[[], type[Task]] = field(default=None, repr=False)


def available() -> dict[str, TaskInfo]:
    """Every task that an installed package names, without importing any."""
    from importlib.metadata import entry_points

    return {e.name: TaskInfo(e.name, e.value, load=e.load) for e in entry_points(group="scionwood.tasks")}


def load_task(name: str, **options) -> Task:
    """Find a task by name and build it with the recipe's ``[task]`` options."""
    known = available()
    if name not in known:
        raise UserError(f"task '{name}': no installed package provides it{nearest(name, known)} (known: {', '.join(sorted(known)) or 'none'})")
    try:
        cls = known[name].load()
    except (ImportError, AttributeError) as e:
        raise UserError(f"task '{name}': cannot be imported from {known[name].package} ({e})") from None
    try:
        return cls(**options)
    except TypeError as e:
        raise UserError(f"task '{name}': {e}; check [task_options]") from None
