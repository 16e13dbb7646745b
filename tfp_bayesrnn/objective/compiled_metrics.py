"""Metrics of `compile`: what they are called, and which predictions, targets and weights they see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn.objective import free_energy as energies
from tfp_bayesrnn.objective import outputs as outputs_of
from tfp_bayesrnn.objective.likelihoods import shapes


def named(metrics: Any, likelihood: Any) -> Any:
    """Metrics, of which names are what the likelihood has for them: "accuracy" of logits is of logits.

    Args:
      metrics: the metrics, as `keras.Model.compile` takes them.
      likelihood: the model's likelihood, or the structure of them.
    """
    if isinstance(metrics, str):
        leaves = [one for one in keras.tree.flatten(likelihood) if one is not None]
        found = [one.metric(metrics) for one in leaves]
        # Of several likelihoods, only where all of them mean the same.
        return found[0] if len(set(map(type, leaves))) == 1 else metrics
    if isinstance(metrics, Mapping):
        own = likelihood if isinstance(likelihood, Mapping) else {}
        return {name: named(each, own.get(name, likelihood)) for name, each in metrics.items()}
    if isinstance(metrics, list | tuple):
        is_matched = isinstance(likelihood, list) and len(metrics) == len(likelihood)
        is_matched &= all(isinstance(each, list | tuple) or each is None for each in metrics)
        pairs = zip(metrics, likelihood if is_matched else [likelihood] * len(metrics), strict=True)
        return [named(each, one) for each, one in pairs]
    return metrics


def predictions(likelihood: Any, outputs: Any, names: Sequence[str] | None) -> Any:
    """What metrics see of outputs, with their masks: themselves, or the mean where they are parameters."""
    found = outputs_of.spread("likelihood", likelihood, outputs, names, shared=True)
    flat = [
        one if likelihood is None else likelihood.predictions(one)
        for likelihood, one in zip(found, keras.tree.flatten(outputs), strict=True)
    ]
    return outputs_of.with_masks(keras.tree.pack_sequence_as(outputs, flat), outputs_of.masks(outputs))


def matched(
    likelihood: Any, targets: Any, predictions: Any, sample_weight: Any, names: Sequence[str] | None
) -> tuple[Any, Any, Any]:
    """Targets, predictions and weights in the structure of the outputs; masks are part of both others.

    Args:
      likelihood: the likelihood, or a structure of them; see `outputs.match`.
      targets: the targets, as `fit` takes them.
      predictions: those that metrics see.
      sample_weight: the weights, as `fit` takes them, or None.
      names: the output names of a functional network.
    """
    found = outputs_of.spread("likelihood", likelihood, predictions, names, shared=True)
    targets = outputs_of.spread(
        "targets", targets, predictions, names, needed=[one is not None for one in found]
    )
    none = [False] * len(found)
    weights = outputs_of.spread("sample_weight", sample_weight, predictions, names, shared=True, needed=none)
    masks = [
        _with_counted(mask, one, target)
        for mask, one, target in zip(
            keras.tree.flatten(outputs_of.masks(predictions)), found, targets, strict=True
        )
    ]
    predictions = outputs_of.with_masks(predictions, keras.tree.pack_sequence_as(predictions, masks))
    targets = [
        shapes.with_axes_of(prediction.shape, tf.convert_to_tensor(target))
        if likelihood is not None
        else target
        for likelihood, target, prediction in zip(
            found, targets, keras.tree.flatten(predictions), strict=True
        )
    ]
    weights = [
        one if one is None or mask is None else energies.product(one, mask)
        for one, mask in zip(weights, masks, strict=True)
    ]
    targets, weights = (keras.tree.pack_sequence_as(predictions, flat) for flat in (targets, weights))
    return targets, predictions, None if sample_weight is None else weights


def _with_counted(mask: tf.Tensor | None, likelihood: Any, targets: Any) -> tf.Tensor | None:
    counted = None if likelihood is None else likelihood.counted(tf.convert_to_tensor(targets))
    if counted is None:
        return mask
    return counted if mask is None else tf.cast(energies.product(counted, mask), tf.bool)
