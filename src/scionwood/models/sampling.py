"""How llama.cpp draws tokens: temperature, then min-p, then top-p, and no other filter; the likeliest token where it is cold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ORDER = ["temperature", "min_p", "top_p"]
COLDEST = 1e-4  # logits are not exact to so little, and divided by far less they leave float32
LAST_SEED = 2**32 - 2  # llama.cpp takes the next one for "any"


@dataclass(frozen=True)
class Drawing:
    """``temperature`` below ``COLDEST`` takes the likeliest token. ``min_p`` keeps tokens with this share of the likeliest one's
    probability (Nguyen et al. 2024), ``top_p`` the fewest that hold so much of it (Holtzman et al. 2020); 0 and 1 keep all.
    ``seed``: 0 to ``LAST_SEED``. ``barred`` tokens are never written; where any are, llama.cpp ends no answer by itself either."""

    temperature: float = 0.0
    min_p: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    barred: tuple[int, ...] = ()

    def fields(self) -> dict[str, Any]:
        """The drawing as fields of a request to llama.cpp."""
        barred: dict[str, Any] = {"logit_bias": [[t, False] for t in self.barred], "ignore_eos": True} if self.barred else {}
        if self.temperature < COLDEST:
            return {"temperature": 0} | barred
        kept = {"min_p": self.min_p, "top_p": self.top_p, "top_k": 0}
        return {"temperature": self.temperature, **kept, "samplers": ORDER, "seed": self.seed} | barred


GREEDY = Drawing()
