"""Gradual pruning: masks that are tightened while a network trains (Zhu and Gupta, 2018).

A weight that is dropped early leaves time for the others to take its place, so more can be dropped than of a
network that is trained already. What to drop is ranked anew each time among the elements that are left; what
has been dropped stays so.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfp_bayesrnn.posterior import pruning
from tfp_bayesrnn.posterior.posterior import Posterior


@dataclasses.dataclass(frozen=True)
class PruningSchedule:
    """The share of all weights that is dropped after each epoch.

    Attributes:
      fraction: the share in the end, above 0 and below 1.
      first_epoch: the epoch, counted from 1, after which weights are dropped first.
      last_epoch: the epoch after which `fraction` is reached.
      by: the ranking, "signal_to_noise" or "magnitude"; see `pruning.masks`.
      scope: "network" or "weight", likewise.

    Raises:
      ValueError: if one of them is another.
    """

    fraction: float
    first_epoch: int
    last_epoch: int
    by: str = "signal_to_noise"
    scope: str = "network"

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction < 1.0:
            raise ValueError(f"fraction must lie above 0 and below 1. Received: fraction={self.fraction}")
        if not 1 <= self.first_epoch <= self.last_epoch:
            raise ValueError(
                "Weights are dropped from an epoch, 1 or later, to that one or a later one. "
                f"Received: first_epoch={self.first_epoch}, last_epoch={self.last_epoch}"
            )
        pruning.check_ranking(self.by, self.scope)

    def fraction_after(self, epoch: int) -> float:
        """The share that is dropped after an epoch: fraction (1 - (1 - t)^3), t from 0 to 1 (their eq. 1)."""
        epochs = self.last_epoch - self.first_epoch + 1
        t = min(max((epoch - self.first_epoch + 1) / epochs, 0.0), 1.0)
        return self.fraction * (1.0 - (1.0 - t) ** 3)

    def prepare(self, posterior: Posterior) -> None:
        """Makes the masks, all true but where weights are pruned already, before functions are traced.

        Raises:
          ValueError: if the prior or the posterior of some of a weight's elements is not known, or there is
            no ranking by signal to noise.
        """
        pruning.masks(posterior, 0.0, self.by, self.scope)
        for weight in posterior.weights:
            weight.check_prunable(np.zeros(weight.shape, bool))
        pruning.prune(posterior, pruning.masks_of(posterior))

    def tighten(self, posterior: Posterior, epoch: int) -> bool:
        """Drops what is to be dropped after an epoch; returns whether anything was."""
        before = pruning.remaining(pruning.masks_of(posterior))
        fraction = max(self.fraction_after(epoch), before.dropped)
        masks = pruning.masks(posterior, fraction, self.by, self.scope)
        if pruning.remaining(masks).kept >= before.kept:
            return False
        pruning.prune(posterior, masks)
        return True
