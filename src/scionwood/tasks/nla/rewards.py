"""What reinforcement pays for: rewards of explanations by the vectors that follow from them, and advantages within a group."""

from __future__ import annotations

from typing import Literal, Sequence

import numpy as np

from scionwood.tasks.nla import fve
from scionwood.tasks.nla.verbalizer import Said

UNFINISHED = -2.0  # of an explanation without its closing tag; paying those that were cut makes explanations ever longer
SMALLEST = 1e-4  # spread of rewards, and error, that is divided by or taken the logarithm of


def scored(said: Sequence[Said], values: np.ndarray, reconstruct, kind: Literal["mse", "log"]) -> tuple[np.ndarray, np.ndarray]:
    """``(rewards (n,), errors (n,))`` of explanations of vectors (n, d): minus the error of ``reconstruct(texts)``, or minus its
    logarithm; explanations that are not whole get ``UNFINISHED``, and an error of NaN."""
    whole = [i for i, s in enumerate(said) if s.complete and s.text]
    error, reward = np.full(len(said), np.nan), np.full(len(said), UNFINISHED)
    if whole:
        error[whole] = fve.errors(reconstruct([said[i].text for i in whole]), values[whole])
        reward[whole] = -error[whole] if kind == "mse" else -np.log(np.maximum(error[whole], SMALLEST))
    return reward, error


def advantages(rewards: np.ndarray, samples: int) -> np.ndarray:
    """Rewards (n,) of groups of ``samples`` neighbours, each group brought to mean 0 and spread 1 (GRPO; Shao et al., 2024). A group
    of equal rewards teaches nothing: its advantages are 0."""
    groups = np.asarray(rewards, dtype=np.float64).reshape(-1, samples)
    centred = groups - groups.mean(1, keepdims=True)
    spread = groups.std(1, keepdims=True)
    return np.where(spread > SMALLEST, centred / np.maximum(spread, SMALLEST), 0.0).reshape(-1)
