"""Who says how good an answer is: marks from a chat endpoint, or a local reward model. Coherence, the default, needs neither."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Callable, Protocol, Sequence

from scionwood.errors import UserError
from scionwood.tasks.lantern.settings import Quality

HIGHEST = 10
MARK = re.compile(r"(?<![\d.,])(10|[1-9])(?![\d.,]*\d)")
ASK = """\
Below are a prompt and an answer to it. The answer was cut at {words} words on purpose: do not mind that it breaks off, and do not \
reward or punish its length. How good is it, as far as it goes, for somebody who wrote the prompt? Reply with one whole number from 1 \
(useless) to {highest} (as good as it could be), and nothing else.

Prompt:
{prompt}

Answer:
{answer}"""


class Marker(Protocol):
    """Gives the quality, 0 to 1, of each answer to each prompt. ``name`` says who it is."""

    name: str

    def marks(self, prompts: Sequence[str], answers: Sequence[Sequence[str]]) -> list[list[float]]:
        """One list for each prompt, one number for each answer."""


def quality_of(text: str) -> float:
    """A mark from 1 to 10 as a quality: (mark - 1) / 9. A reply without one mark is worth nothing: 0."""
    found = set(MARK.findall(text))
    return (int(found.pop()) - 1) / (HIGHEST - 1) if len(found) == 1 else 0.0


class EndpointMarker:
    """Marks from a chat endpoint. Every call stands in a journal, so an interrupted measurement goes on where it stopped."""

    def __init__(self, settings: Quality, words: int, journal: Path):
        self.endpoint, self.words, self.journal = settings.endpoint, words, journal
        self.name = settings.endpoint.model

    def marks(self, prompts: Sequence[str], answers: Sequence[Sequence[str]]) -> list[list[float]]:
        """Each answer is asked about alone. A refusal or a time-out is worth nothing, as a reply without a mark is. Raises UserError where
        the judge could not be reached for one: the journal keeps the others."""
        from scionwood.teaching.endpoint import Request, ask_all
        from scionwood.teaching.journal import ERROR, OK, REFUSED, TIMEOUT, Journal

        def asked(prompt: str, answer: str) -> list[dict[str, str]]:
            return [{"role": "user", "content": ASK.format(words=self.words, highest=HIGHEST, prompt=prompt, answer=answer)}]

        requests = [Request(f"{i}/{k}", asked(p, a)) for i, (p, each) in enumerate(zip(prompts, answers)) for k, a in enumerate(each)]
        with Journal(self.journal) as journal:
            rows = ask_all(self.endpoint, requests, journal, None, (OK, TIMEOUT, REFUSED))
        lost = [r for r in rows.values() if r["status"] == ERROR]
        if lost:
            raise UserError(f"judge {self.name}: {len(lost)} of {len(rows)} answers got no mark (the first: {lost[0]['reason']}); "
                            f"run it again, {self.journal.name} keeps the others")
        return [[quality_of(rows[f"{i}/{k}"].get("text", "")) for k in range(len(a))] for i, a in enumerate(answers)]


class RewardMarker:
    """A sequence classifier with one output; quality is the logistic function of its reward."""

    def __init__(self, model: str, device: str = "auto"):
        """``model``: a folder or a hub name. Raises UserError where it has more than one output, remote code or pickled weights."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from scionwood.files import read_json
        from scionwood.models import machine
        from scionwood.tasks.lantern.measures.equivalence import fetch, refuse

        folder = fetch(model)
        config = read_json(folder / "config.json")
        refuse(folder, config, model)
        self.name, self.device = model, machine.choose_device(device)[0]
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            self.model, loaded = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, output_loading_info=True)
        except Exception as e:  # the tokenizers library raises bare Exceptions
            raise UserError(f"quality.model {model}: cannot be loaded ({next(iter(str(e).splitlines()), type(e).__name__)})") from None
        if self.model.config.num_labels != 1 or loaded["missing_keys"]:
            raise UserError(f"quality.model {model}: not a reward model with one stored output; name another, or take kind = \"coherence\"")
        self.model.to(self.device).eval()

    def marks(self, prompts: Sequence[str], answers: Sequence[Sequence[str]]) -> list[list[float]]:
        """Each answer is read alone, under the model's own chat template where it has one."""
        return [[self._mark(p, a) for a in of_prompt] for p, of_prompt in zip(prompts, answers)]

    def _mark(self, prompt: str, answer: str) -> float:
        import torch

        if self.tokenizer.chat_template:
            messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            ids = self.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
            given = {"input_ids": torch.tensor([ids], device=self.device)}
        else:
            given = self.tokenizer(prompt, answer, return_tensors="pt").to(self.device)
        with torch.no_grad():
            reward = float(self.model(**given).logits[0, 0])
        return float(f"{1 / (1 + math.exp(-max(-500.0, reward))):.6g}")


def open_marker(settings: Quality, words: int, journal: Path, local: Callable[[str], str]) -> Marker | None:
    """The marker that a recipe names; None for coherence. ``local`` makes a relative folder absolute."""
    if settings.kind == "judge":
        return EndpointMarker(settings, words, journal)
    return RewardMarker(local(settings.model)) if settings.kind == "reward" else None
