"""Which answers mean the same: classes by a model of entailment or of embeddings that the user names."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Sequence

from scionwood.errors import UserError
from scionwood.files import read_json

THRESHOLD = 0.85  # cosine from which two answers count as the same under an embedding model, unless the user says otherwise
BATCH = 32  # texts or pairs of one forward pass

Entails = Callable[[Sequence[tuple[str, str]]], list[bool]]  # (premise, hypothesis) pairs -> whether each entails


def by_entailment(answers: Sequence[str], entails: Entails, prompt: str = "") -> list[int]:
    """Classes (k,) by entailment in both directions (Farquhar et al. 2024): each answer is held against the first of each class.

    With a prompt both texts begin with it, as in the paper, so that an answer that is no sentence is understood.
    """
    texts = [f"{prompt} {a}".strip() for a in answers]
    firsts: list[int] = []
    classes = []
    for i, text in enumerate(texts):
        pairs = [p for first in firsts for p in ((texts[first], text), (text, texts[first]))]
        said = entails(pairs) if pairs else []
        same = next((c for c in range(len(firsts)) if said[2 * c] and said[2 * c + 1]), len(firsts))
        if same == len(firsts):
            firsts.append(i)
        classes.append(same)
    return classes


def by_similarity(vectors, threshold: float) -> list[int]:
    """Classes (k,) by the cosine of unit vectors (k, dimensions): each answer is held against the first of each class, in order."""
    firsts: list[int] = []
    classes = []
    for i, v in enumerate(vectors):
        same = next((c for c, first in enumerate(firsts) if float(v @ vectors[first]) >= threshold), len(firsts))
        if same == len(firsts):
            firsts.append(i)
        classes.append(same)
    return classes


class Judge:
    """A model that tells which answers mean the same. ``name`` is the basis of the figures that rest on it."""

    def __init__(self, model: str, threshold: float = THRESHOLD, device: str = "auto"):
        """``model``: a folder or a hub name. A sequence classifier with a label "entailment" judges pairs; any other encoder
        gives embeddings. Raises UserError where it cannot be loaded, or asks for remote code or pickled weights."""
        from scionwood.models import machine

        self.folder, self.threshold = fetch(model), threshold
        config = read_json(self.folder / "config.json")
        refuse(self.folder, config, model)
        self.entailment = entailment_label(config)
        if self.entailment is None and any("SequenceClassification" in a for a in config.get("architectures") or []):
            raise UserError(f"--judge {model}: a classifier without a label 'entailment' (it has {', '.join(labels(config).values())}); "
                            "name a model of entailment or of embeddings")
        self.device = machine.choose_device(device)[0]
        self._load(model)
        self.name = f"{model} ({'entailment' if self.entailment is not None else f'cosine from {threshold:g}'})"

    def _load(self, name: str) -> None:
        import torch
        from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

        cls = AutoModel if self.entailment is None else AutoModelForSequenceClassification
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
            self.model, loaded = cls.from_pretrained(self.folder, dtype=torch.float32, trust_remote_code=False, use_safetensors=True,
                                                     output_loading_info=True)
        except Exception as e:  # the tokenizers library raises bare Exceptions
            raise UserError(f"--judge {name}: cannot be loaded ({next(iter(str(e).splitlines()), type(e).__name__)})") from None
        missing = [k for k in loaded["missing_keys"] if "pooler" not in k]  # no pooler is needed: what is not stored would be random
        if missing:
            raise UserError(f"--judge {name}: {len(missing)} of its weights are not stored, first '{sorted(missing)[0]}'")
        self.model.to(self.device).eval()

    def classes(self, answers: Sequence[str], prompt: str = "") -> list[int]:
        """The class of each answer to one prompt, numbered in order of appearance."""
        if self.entailment is None:
            return by_similarity(self.embed(list(answers)), self.threshold)
        return by_entailment(answers, self.entails, prompt)

    def entails(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether the likeliest label of each (premise, hypothesis) pair is entailment."""
        import torch

        out: list[bool] = []
        for at in range(0, len(pairs), BATCH):
            given = self._encode([a for a, _ in pairs[at : at + BATCH]], [b for _, b in pairs[at : at + BATCH]])
            with torch.no_grad():
                out += (self.model(**given).logits.argmax(-1) == self.entailment).tolist()
        return out

    def embed(self, texts: list[str]):
        """Unit vectors (texts, dimensions) as a NumPy array, pooled as the model's own settings say (mean without any)."""
        import torch

        pool, out = pooling(self.folder), []
        for at in range(0, len(texts), BATCH):
            given = self._encode(texts[at : at + BATCH])
            with torch.no_grad():
                states, mask = self.model(**given).last_hidden_state, given["attention_mask"].to(self.device)
            if pool == "cls":
                vectors = states[:, 0]
            elif pool == "last":
                place = (mask * torch.arange(1, mask.shape[1] + 1, device=self.device)).argmax(1)  # wherever the padding is
                vectors = states[torch.arange(len(states), device=self.device), place]
            else:
                vectors = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            out.append(torch.nn.functional.normalize(vectors.float(), dim=-1).cpu())
        return torch.cat(out).numpy()

    def _encode(self, *texts: list[str]):
        most = getattr(self.model.config, "max_position_embeddings", None) or 512
        given = self.tokenizer(*texts, padding=True, return_tensors="pt").to(self.device)
        # RoBERTa numbers its positions from 2
        most -= 2 if "roberta" in self.model.config.model_type else 0
        if given["input_ids"].shape[1] > most:
            raise UserError(f"an answer (or a pair) has {given['input_ids'].shape[1]} tokens, more than the {most} that the judge reads; "
                            "judge shorter answers, or name a judge that reads more")
        return given


def fetch(name: str) -> Path:
    """The local folder of a model: a path, or a hub name that is fetched (safetensors and JSON only)."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(f"--judge {name}: no such folder; name a folder or a hub model of entailment or embeddings")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as e:
        raise UserError(f"--judge {name}: cannot be fetched from the hub ({next(iter(str(e).splitlines()), '')}); name a local folder") from None


def refuse(folder: Path, config: dict, name: str) -> None:
    """Refuse remote code and pickled weights."""
    if "auto_map" in config:
        raise UserError(f"--judge {name}: its config asks for remote code (auto_map); remote code is never run")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"--judge {name}: no safetensors weights in {folder}; convert it to safetensors first")


def labels(config: dict) -> dict[int, str]:
    """A classifier's labels by number."""
    return {int(i): str(label) for i, label in (config.get("id2label") or {}).items()}


def entailment_label(config: dict) -> int | None:
    """The number of the label "entailment", or None: "not_entailment" is another label."""
    return next((i for i, label in labels(config).items() if label.lower() in ("entailment", "entail")), None)


def pooling(folder: Path) -> str:
    """"mean", "cls" or "last", from the settings of sentence-transformers where they are there."""
    file = folder / "1_Pooling" / "config.json"
    settings = read_json(file) if file.exists() else {}
    named = settings.get("pooling_mode")  # newer releases name it; older ones have a switch for each
    if named == "cls" or settings.get("pooling_mode_cls_token"):
        return "cls"
    return "last" if named == "lasttoken" or settings.get("pooling_mode_lasttoken") else "mean"
