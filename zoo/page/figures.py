"""The figures of `results.json`: every set of weights by its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from zoo.page.contents import Contents


class Row(NamedTuple):
    """The figures of one set of weights on one split."""

    key: str  # The key in results.json.
    split: str
    figures: Mapping[str, Any]

    @property
    def is_bound(self) -> bool:
        """Whether the row is of a sharpened posterior: an upper bound, its KL paid."""
        return "perplexity_bound" in self.figures

    @property
    def perplexity(self) -> float | None:
        """The perplexity, or the bound on it."""
        return self.figures["perplexity_bound" if self.is_bound else "perplexity"]

    @property
    def kl(self) -> float | None:
        """The cost of the sharpening, nats per word; None where nothing is sharpened."""
        return self.figures["kl_per_token"] if self.is_bound else None

    @property
    def nll(self) -> float | None:
        """The NLL, nats per word, without the KL."""
        if self.perplexity is None:
            return None
        if self.is_bound:
            return math.log(self.perplexity) - self.figures["kl_per_token"]
        return self.figures.get("nll", math.log(self.perplexity))


def rows_of(results: Mapping[str, Any]) -> list[Row]:
    """All that results.json has perplexities of, those of valid first."""
    found = []
    for split in ("valid", "test"):
        for key, figures in results.items():
            is_of_split = key == split or key.startswith(f"{split}_")
            if is_of_split and isinstance(figures, dict):
                if "perplexity" in figures or "perplexity_bound" in figures:
                    found.append(Row(key, split, figures))
    return found


def named(contents: Contents, weights: str) -> str:
    """A set of weights of `results.json`, as a page calls it."""
    if weights == "mean" or weights.startswith("mean,"):
        rest = weights.removeprefix("mean")
        return f"posterior mean{rest}" if contents.is_bayesian else f"as trained{rest}"
    return weights
