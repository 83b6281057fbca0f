"""Trivial predictors of a vector, from what is known of a text or from the words of its description: what a reconstructor has to beat.

Every predictor is fitted on the training texts alone; the dev texts choose the strength of a ridge. All predict on the scale of
unit vectors (see fve.unit). Those that read words read them through ``read``, by default the description: to measure what the
words of a verbalizer are worth, put these in the description's place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Callable, Sequence

import numpy as np

from scionwood.errors import UserError
from scionwood.tasks.nla import fve
from scionwood.tasks.nla.texts import Text

Read = Callable[[Text], str]
Encode = Callable[[Sequence[str]], np.ndarray]  # n texts -> (n, features)
STRENGTHS = np.logspace(-3, 2, 16)  # of a ridge whose features have a mean squared length of 1, times the number of texts
BATCH = 32


def description(text: Text) -> str:
    """What the predictors read unless told otherwise."""
    return text.description


class Predictor(ABC):
    """Text to vector. ``name`` and ``about`` are for tables."""

    name: str
    about: str

    @abstractmethod
    def fit(self, texts: Sequence[Text], values: np.ndarray, dev: Sequence[Text] = (), dev_values: np.ndarray | None = None) -> Predictor:
        """Learn from ``texts`` and their vectors (n, d) of any length; ``dev`` chooses between strengths where there are any."""

    @abstractmethod
    def predict(self, texts: Sequence[Text]) -> np.ndarray:
        """(n, d) float32 on the scale of unit vectors; not brought to the norm sqrt(d)."""


class GroupMean(Predictor):
    """The training mean of the texts with the same label; the mean of all where training had none of it."""

    def __init__(self, name: str, about: str, group: Callable[[Text], str]):
        self.name, self.about, self.group = name, about, group

    def fit(self, texts, values, dev=(), dev_values=None):
        self.values, self.groups = np.asarray(values), [self.group(t) for t in texts]
        return self

    def predict(self, texts):
        return fve.group_means(self.values, self.groups, [self.group(t) for t in texts]).astype(np.float32)


class _Words(Predictor):
    """Predicts from features of the words that ``read`` gives."""

    def __init__(self, read: Read = description):
        self.read = read

    def fit(self, texts, values, dev=(), dev_values=None):
        said = [self.read(t) for t in texts]
        self.learn(said)
        self.mean = fve.unit(values).mean(axis=0)
        self.solve(self.features(said), fve.unit(values) - self.mean, [self.read(t) for t in dev], dev_values)
        return self

    def predict(self, texts):
        if not texts:
            return np.empty((0, len(self.mean)), np.float32)
        return (self.mean + self.answer(self.features([self.read(t) for t in texts]))).astype(np.float32)

    def learn(self, said: Sequence[str]) -> None:
        """Look at the training words before their features are taken."""

    @abstractmethod
    def features(self, said: Sequence[str]) -> np.ndarray:
        """(n, features)."""

    @abstractmethod
    def solve(self, x: np.ndarray, y: np.ndarray, dev: Sequence[str], dev_values: np.ndarray | None) -> None:
        """Fit the features (n, f) to what is left of the unit vectors (n, d) without their mean."""

    @abstractmethod
    def answer(self, x: np.ndarray) -> np.ndarray:
        """Features (n, f) to vectors (n, d) without the mean."""


class _Tfidf(_Words):
    """TF-IDF of words, each text at length 1; English words and single Chinese characters alike."""

    def learn(self, said):
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)[一-鿿]|\w+").fit([s or " " for s in said])

    def features(self, said):
        return self.vectorizer.transform(list(said)).toarray()


class NearestNeighbour(_Tfidf):
    """The vector of the training text whose words are most alike."""

    name, about = "nearest-neighbour", "the vector of the training text with the most similar description (cosine over TF-IDF)"

    def solve(self, x, y, dev, dev_values):
        self.x, self.y = x, y

    def answer(self, x):
        return self.y[(x @ self.x.T).argmax(axis=1)]


class _Ridge:
    """Ridge regression from features to vectors, solved in the space of the training texts, which are fewer than the features."""

    def solve(self, x, y, dev, dev_values):
        self.centre = x.mean(axis=0)
        self.size = max(np.sqrt(((x - self.centre) ** 2).sum(axis=1).mean()), fve.SMALLEST)
        self.x = (x - self.centre) / self.size
        values, self.basis = np.linalg.eigh(self.x @ self.x.T)
        self.inner, self.turned = np.maximum(values, 0), self.basis.T @ y
        self.strength = len(x) * float(np.median(STRENGTHS))
        if len(dev):
            seen = self.near(self.features(dev))
            self.strength = min(len(x) * STRENGTHS, key=lambda s: fve.errors(self.mean + self.weigh(seen, s), dev_values).mean())

    def near(self, x: np.ndarray) -> np.ndarray:
        """Features (n, f) as products with the training texts', in the basis where these do not mix."""
        return (x - self.centre) / self.size @ self.x.T @ self.basis

    def weigh(self, near: np.ndarray, strength: float) -> np.ndarray:
        return near @ (self.turned / (self.inner + strength)[:, None])

    def answer(self, x):
        return self.weigh(self.near(x), self.strength)


class RidgeTfidf(_Ridge, _Tfidf):
    """Ridge regression from TF-IDF of the description's words."""

    name, about = "ridge-tfidf", "ridge regression from TF-IDF of the description's words, its strength chosen on dev"


class BagOfWords(_Ridge, _Words):
    """Ridge regression from which words occur, nothing weighed."""

    name, about = "bag-of-words", "ridge regression from which words the description holds, its strength chosen on dev"

    def learn(self, said):
        from sklearn.feature_extraction.text import CountVectorizer

        self.vectorizer = CountVectorizer(binary=True, token_pattern=r"(?u)[一-鿿]|\w+").fit([s or " " for s in said])

    def features(self, said):
        return self.vectorizer.transform(list(said)).toarray().astype(np.float64)


class RidgeEmbedding(_Ridge, _Words):
    """Ridge regression from a sentence embedding of the words."""

    name = "ridge-embedding"

    def __init__(self, encode: Encode, about: str, read: Read = description):
        super().__init__(read)
        self.encode, self.about = encode, about

    def features(self, said):
        return np.asarray(self.encode(list(said)), dtype=np.float64)


def mean_states(model, tokenizer, layer: int | None = None) -> Encode:
    """Sentence embeddings of a frozen language model: the mean over a text's tokens of block ``layer``'s output (None: the last block's).

    ``model`` is a causal LM of transformers in evaluation mode. An empty text is all zeros.
    """

    def encode(said: Sequence[str]) -> np.ndarray:
        import torch

        stack = model.get_base_model().model if hasattr(model, "get_base_model") else model.model
        blocks = stack.layers
        at, kept = len(blocks) - 1 if layer is None else layer, []
        if not 0 <= at < len(blocks):
            raise UserError(f"layer {at}: this base has blocks 0 to {len(blocks) - 1}")
        handle = blocks[at].register_forward_hook(lambda module, given, out: kept.append(out[0] if isinstance(out, tuple) else out))
        rows = [tokenizer.encode(s) for s in said]
        out = np.zeros((len(rows), model.config.get_text_config().hidden_size), np.float32)
        order = sorted((i for i, r in enumerate(rows) if r), key=lambda i: len(rows[i]))
        device = next(model.parameters()).device
        try:
            for start in range(0, len(order), BATCH):
                chosen = order[start : start + BATCH]
                width = len(rows[chosen[-1]])
                mask = torch.tensor([[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in chosen], device=device)
                ids = torch.tensor([rows[i] + [rows[i][-1]] * (width - len(rows[i])) for i in chosen], device=device)
                with torch.no_grad():
                    stack(input_ids=ids, attention_mask=mask, use_cache=False)
                state, weight = kept.pop().float(), mask[..., None].float()
                out[chosen] = ((state * weight).sum(1) / weight.sum(1)).cpu().numpy()
        finally:
            handle.remove()
        return out

    return encode


def all_predictors(encode: Encode | None = None, encoder: str = "the base's own states, their mean over the words",
                   read: Read = description) -> list[Predictor]:
    """Every predictor, unfitted. With ``encode``, the ridge from sentence embeddings is among them; ``encoder`` names these."""
    found: list[Predictor] = [
        GroupMean("mean", "the mean of the training vectors", lambda t: ""),
        GroupMean("category-mean", "the mean of the training vectors of the same category", lambda t: t.category),
        GroupMean("language-mean", "the mean of the training vectors of the same language", lambda t: t.lang),
        GroupMean("category-language-mean", "the mean of the training vectors of the same category and language",
                  lambda t: f"{t.category}/{t.lang}"),
        NearestNeighbour(read), BagOfWords(read), RidgeTfidf(read),
    ]
    if encode:
        about = f"ridge regression from sentence embeddings of the description ({encoder}), its strength chosen on dev"
        found.append(RidgeEmbedding(encode, about, read))
    return found
