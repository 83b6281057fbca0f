"""Trivial systems for any task whose answers are labels."""

from __future__ import annotations

from collections import Counter
from typing import Callable, Sequence

from scionwood.systems.base import Rival
from scionwood.task import Case, Choices, Task

Fields = Callable[[Case], list[str]]


class Majority(Rival):
    """The most frequent answer of the job in the training cases."""

    name, about = "majority", "the most frequent answer of each job"

    def fit(self, task: Task, cases: Sequence[Case]) -> None:
        super().fit(task, cases)
        counts: dict[str, Counter] = {}
        for c in cases:
            counts.setdefault(c.job, Counter())[task.target(c)] += 1
        # ties fall to the answer that sorts first, so that a fit does not depend on the order of the cases
        self.best = {job: min(n, key=lambda t: (-n[t], t)) for job, n in counts.items()}

    def answer(self, case: Case) -> tuple[str, float | None]:
        return self.best.get(case.job, ""), None


class RandomLegal(Rival):
    """A legal answer drawn at random; the same for the same case and seed."""

    name, about = "random", "a legal answer at random"

    def __init__(self, seed: int = 0):
        self.seed = seed

    def answer(self, case: Case) -> tuple[str, float | None]:
        import random

        constraint = self.task.constraint(case)
        choices = constraint.texts if isinstance(constraint, Choices) else ("",)
        return random.Random(f"{self.seed}/{case.id}").choice(choices), 1 / len(choices)


class _Tfidf(Rival):
    """TF-IDF of character 1- to 4-grams; each field of a case has features of its own."""

    def __init__(self, fields: Fields):
        self.fields = fields

    def fit(self, task: Task, cases: Sequence[Case]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        super().fit(task, cases)
        self.vectorizers, self.models = {}, {}
        for job in sorted({c.job for c in cases}):
            mine = [c for c in cases if c.job == job]
            columns = list(zip(*(self.fields(c) for c in mine)))
            self.vectorizers[job] = [
                TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True, lowercase=True,
                                min_df=2 if len(mine) > 50 else 1).fit([t or " " for t in col])
                for col in columns
            ]
            self.models[job] = self.fit_job(self.features(job, mine), [task.target(c) for c in mine])

    def features(self, job: str, cases: Sequence[Case]):
        from scipy.sparse import hstack

        columns = zip(*(self.fields(c) for c in cases))
        return hstack([v.transform([t or " " for t in col]) for v, col in zip(self.vectorizers[job], columns)]).tocsr()

    def fit_job(self, x, y):
        raise NotImplementedError


class TfidfLogistic(_Tfidf):
    """Logistic regression over TF-IDF, one model per job; its strength C is chosen by cross-validation on the training cases."""

    name, about = "tfidf-logistic", "TF-IDF of character n-grams with logistic regression, C by cross-validation"

    def fit_job(self, x, y):
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import cross_val_score
        from sklearn.multiclass import OneVsRestClassifier

        def model(c: float):
            # liblinear is many times as fast here as a multinomial fit, and no worse on the dev split
            return OneVsRestClassifier(LogisticRegression(C=c, solver="liblinear", random_state=0))

        if len(set(y)) < 2:
            return None, y[0]

        def mean_score(c: float) -> float:
            folds = min(3, min(Counter(y).values()))
            if folds < 2:
                return 0.0
            return cross_val_score(model(c), x, y, cv=folds, scoring="f1_macro").mean()

        best = max((1.0, 10.0, 100.0), key=mean_score)
        return model(best).fit(x, y), None

    def answer(self, case: Case) -> tuple[str, float | None]:
        if case.job not in self.models:
            return "", None  # as the majority rival answers a job without training cases
        model, constant = self.models[case.job]
        if model is None:
            return constant, 1.0
        p = model.predict_proba(self.features(case.job, [case]))[0]
        return str(model.classes_[p.argmax()]), float(p.max())


class NearestNeighbour(_Tfidf):
    """The answer of the training case with the highest cosine similarity."""

    name, about = "nearest-neighbour", "the answer of the most similar training case (cosine over TF-IDF)"

    def fit_job(self, x, y):
        return x, y

    def answer(self, case: Case) -> tuple[str, float | None]:
        if case.job not in self.models:
            return "", None
        x, y = self.models[case.job]
        similarity = (x @ self.features(case.job, [case]).T).toarray()[:, 0]
        i = int(similarity.argmax())
        return y[i], None
