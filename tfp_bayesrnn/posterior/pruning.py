"""Pruning: the least certain weights of a trained posterior are set to 0.

Fortunato et al. (2017), after Blundell et al. (2015), rank all weights of the network by their
signal-to-noise ratio |mu| / sigma and drop the lowest. The baseline, and all there is for a network without
distributions, is to rank them by |mu|.

    masks = pruning.masks(model.posterior, 0.8)
    draw = pruning.masked_draw(model.posterior.mean(), masks)  # To try it: a draw is a value.
    pruning.prune(model.posterior, masks)                      # To keep it: in the model and what is saved.

A fraction is one of all elements of all weights, biases and weights without a distribution included. Those
have an infinite ratio and are dropped last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.posterior.weights import VariationalWeight

BY = ("signal_to_noise", "magnitude")
SCOPES = ("network", "weight")

PERCENTILES = (5, 25, 50, 75, 95)

# From a weight to a bool array of its shape: whether an element is kept.
Masks = dict[VariationalWeight, np.ndarray]


class Remaining(NamedTuple):
    """The elements that masks leave, and the bytes of their values in float32."""

    weights: int  # Elements in all.
    kept: int
    dense_bytes: int  # Bytes of all elements.
    sparse_bytes: int  # Bytes of the kept ones, and a bit for every element that says which they are.

    @property
    def dropped(self) -> float:
        """The share of the elements that is not kept."""
        return 1.0 - self.kept / self.weights


class SignalToNoise(NamedTuple):
    """How |mu| / sigma is distributed over elements that are kept, in decibels: 20 log10 of the ratio."""

    name: str  # The weight's path; "network" for all weights.
    elements: int
    percentiles: dict[int, float]  # An element's own value each; -infinity where mu is 0.
    edges: np.ndarray  # The edges of the bins, dB [N + 1].
    density: np.ndarray  # Per dB [N]; the outermost bins hold what lies beyond them too.


def masks(
    posterior: Posterior, fraction: float, by: str = "signal_to_noise", scope: str = "network"
) -> Masks:
    """The masks that drop the lowest `fraction` of the elements: exactly round(fraction * elements) of them.

    Equal ratios are ranked by magnitude, equal magnitudes by their place, the first dropped first. Elements
    that were pruned before rank below all that are kept, a mean of exactly 0 included.

    Args:
      posterior: the posterior whose weights are ranked.
      fraction: the fraction to drop, between 0 and 1.
      by: the ranking, "signal_to_noise" or "magnitude".
      scope: "network" ranks all elements together; "weight" drops the same fraction of every weight.

    Raises:
      ValueError: if the fraction, ranking or scope is another, a weight is not finite, or, for a ranking by
        signal to noise, no weight has a distribution or one has a posterior without a known scale.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"fraction must lie between 0 and 1. Received: fraction={fraction}")
    check_ranking(by, scope)
    if by == "signal_to_noise" and not posterior.is_variational:
        raise ValueError(
            "A network without distributions has no signal-to-noise ratios: rank its weights by='magnitude'. "
            f"Received: by={by!r}"
        )
    sizes = [math.prod(weight.shape) for weight in posterior.weights]
    magnitudes = [np.abs(weight.mean().numpy()).ravel() for weight in posterior.weights]
    for weight, magnitude in zip(posterior.weights, magnitudes, strict=True):
        if not np.isfinite(magnitude).all():
            raise ValueError(f"A weight to be pruned must be finite. Received: weight={weight.path!r}")
    if by == "magnitude":
        scores = magnitudes
    else:
        scores = [weight.signal_to_noise().numpy().ravel() for weight in posterior.weights]
    # A kept element may have a mean of 0 too: the pruned ones come before it.
    kept = [keep.ravel() for keep in masks_of(posterior).values()]
    scores = [np.where(keep, score, -1.0) for keep, score in zip(kept, scores, strict=True)]
    if scope == "weight":
        keeps = [_keep(fraction, *ranked) for ranked in zip(scores, magnitudes, strict=True)]
    else:
        keep = _keep(fraction, np.concatenate(scores), np.concatenate(magnitudes))
        keeps = np.split(keep, np.cumsum(sizes)[:-1])
    return {weight: keep.reshape(weight.shape) for weight, keep in zip(posterior.weights, keeps, strict=True)}


def check_ranking(by: str, scope: str) -> None:
    """Raises `ValueError` if there is no such ranking or scope."""
    for name, value, accepted in (("by", by, BY), ("scope", scope, SCOPES)):
        if value not in accepted:
            raise ValueError(f"{name} must be one of {accepted}. Received: {name}={value!r}")


def _keep(fraction: float, scores: np.ndarray, magnitudes: np.ndarray) -> np.ndarray:
    """Returns which elements are not among the lowest scores, bool [N]; both arguments are [N]."""
    count = round(fraction * scores.size)
    if not count:
        return np.ones(scores.shape, bool)
    # Avoids sorting millions of scores: only those at the threshold itself have to be told apart.
    threshold = np.partition(scores, count - 1)[count - 1]
    keep = scores >= threshold
    equal = np.flatnonzero(scores == threshold)
    missing = count - (scores.size - np.count_nonzero(keep))
    keep[equal[np.argsort(magnitudes[equal], kind="stable")[:missing]]] = False
    return keep


def masked_draw(draw: Draw, masks: Mapping[VariationalWeight, np.ndarray]) -> Draw:
    """Returns the draw with 0 for every element that is not kept; weights without a mask stay as they are."""
    values = {
        weight: tf.where(masks[weight], value, 0.0) if weight in masks else value
        for weight, value in draw.items()
    }
    return Draw(values, draw.epsilons, draw.seed)


def prune(posterior: Posterior, masks: Mapping[VariationalWeight, np.ndarray]) -> None:
    """Puts masks into the weights, from where they take part in everything, saving and training included.

    A pruned element is 0 in the mean and in every sample, it has no gradient, and the KL is that of the kept
    elements. What has been pruned before stays so. The masks are variables, which functions that have been
    traced before do not know of: `fit`, `evaluate` and `predict` of a `BayesianModel` make theirs anew, but
    `StreamEvaluator`s and `Loop`s that have run have to be made anew.

    Args:
      posterior: the posterior whose weights are pruned.
      masks: the masks of some or all of the weights, as `masks` gives them.

    Raises:
      ValueError: if a mask is of no weight of the posterior or not bool of its shape, or the prior or the
        posterior of a weight's kept elements is not known. Nothing is pruned then.
    """
    for weight, keep in masks.items():
        keep = np.asarray(keep)
        if weight not in posterior.weights:
            raise ValueError(f"A mask must be of a weight of the posterior. Received: weight={weight.path!r}")
        if keep.dtype != bool or keep.shape != weight.shape:
            raise ValueError(
                f"A mask must be bool, of its weight's shape {weight.shape}. "
                f"Received: weight={weight.path!r}, dtype={keep.dtype}, shape={keep.shape}"
            )
        weight.check_prunable(keep)
    for weight, keep in masks.items():
        mask = weight.add_mask()
        mask.assign(np.asarray(keep) & mask.numpy())


def unprune(posterior: Posterior) -> None:
    """Takes all masks away: pruned elements have their mean and scale of before. See `prune`.

    They differ if the optimizer moved them: one with momentum or weight decay does.
    """
    for weight in posterior.weights:
        weight.remove_mask()


def masks_of(posterior: Posterior) -> Masks:
    """The masks that are in the weights; all true for a weight that is not pruned."""
    return {
        weight: np.ones(weight.shape, bool) if weight.keep is None else weight.keep.numpy().astype(bool)
        for weight in posterior.weights
    }


def remaining(masks: Mapping[VariationalWeight, np.ndarray]) -> Remaining:
    """How many elements masks keep, and the bytes of their values."""
    weights = sum(keep.size for keep in masks.values())
    kept = sum(int(np.count_nonzero(keep)) for keep in masks.values())
    bits = sum(-(-keep.size // 8) for keep in masks.values())
    return Remaining(weights, kept, 4 * weights, 4 * kept + bits)


def signal_to_noise(posterior: Posterior, edges: Sequence[float] | None = None) -> list[SignalToNoise]:
    """The distribution of the signal-to-noise ratio: of all weights together, then of each that has one.

    Args:
      posterior: the posterior whose weights they are; those without a distribution are left out.
      edges: the edges of the density's bins, in dB, ascending; None for every 2 dB from -80 to 40.

    Raises:
      ValueError: if a weight has a posterior without a known scale.
    """
    ends = np.asarray(np.arange(-80.0, 41.0, 2.0) if edges is None else edges, np.float64)
    keeps, ratios = masks_of(posterior), {}
    for weight in posterior.variational:
        kept = weight.signal_to_noise().numpy()[keeps[weight]]
        with np.errstate(divide="ignore"):  # A mean of 0 has -infinity decibels.
            ratios[weight.path] = 20.0 * np.log10(kept.astype(np.float64))
    if not ratios:
        return []
    every = {"network": np.concatenate(list(ratios.values())), **ratios}
    return [_statistics(name, decibels, ends) for name, decibels in every.items() if decibels.size]


def _statistics(name: str, decibels: np.ndarray, edges: np.ndarray) -> SignalToNoise:
    values = np.percentile(decibels, PERCENTILES, method="inverted_cdf")
    counts, _ = np.histogram(np.clip(decibels, edges[0], edges[-1]), edges)
    density = counts / (decibels.size * np.diff(edges))
    return SignalToNoise(
        name, decibels.size, dict(zip(PERCENTILES, map(float, values), strict=True)), edges, density
    )


def add_saved_masks(layer: keras.layers.Layer, names: Sequence[str]) -> None:
    """Makes the masks that a checkpoint holds, so that it can be restored.

    Args:
      layer: the layer of the checkpoint, built.
      names: the names of the variables that the checkpoint holds of it, in their order; a mask's name ends in
        "keep".
    """
    unpruned = [weight for weight in Posterior.of(layer).weights if not weight.is_pruned]
    last, place = {id(weight.variables[-1]): weight for weight in unpruned}, 0
    for variable in list(layer.variables):
        place += 1
        weight = last.get(id(variable))
        if weight is not None and place < len(names) and names[place].endswith("keep"):
            weight.add_mask()
            place += 1
