"""Likelihoods: the negative log-likelihood of each target under a network's outputs, in nats."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import checks, keras_internals

NegativeLogLikelihood = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def categorical(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The negative log-likelihood [...] of integer classes [...] under logits [..., V], in nats.

    Raises:
      ValueError: if the targets have another shape, or the logits are of a single class.
    """
    if logits.shape[-1] == 1:
        raise ValueError(
            "A categorical likelihood is one of at least 2 classes: with a single one every prediction is "
            "certain. For real targets choose BayesianModel(..., likelihood=NormalLikelihood(scale)), for "
            f"zeros and ones likelihood='bernoulli'. Received: logits of shape {logits.shape}"
        )
    if not targets.shape.is_compatible_with(logits.shape[:-1]):
        raise ValueError(
            "Targets of a categorical likelihood are integer classes, of the shape of the logits without the "
            f"last axis. Received: targets of shape {targets.shape}, logits of shape {logits.shape}"
        )
    return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(targets, tf.int32), logits)


def bernoulli(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """The negative log-likelihood [...] of zeros and ones [...] under logits [...], in nats.

    Raises:
      ValueError: if the targets have another shape.
    """
    return tf.nn.sigmoid_cross_entropy_with_logits(_like(logits, targets), logits)


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class NormalLikelihood:
    """The negative log-likelihood [...] of real targets [...] under N(outputs, scale^2), of known scale."""

    def __init__(self, scale: float = 1.0):
        if scale <= 0.0:
            raise ValueError(f"scale must be positive. Received: scale={scale}")
        self.scale = float(scale)

    def __call__(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Returns the element-wise negative log-density.

        Raises:
          ValueError: if the shapes differ: targets [B] and outputs [B, 1] would broadcast to [B, B].
        """
        residuals = (_like(outputs, targets) - outputs) / self.scale
        return 0.5 * tf.square(residuals) + math.log(self.scale) + 0.5 * math.log(2.0 * math.pi)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"scale": self.scale}

    @classmethod
    def from_config(cls, config: dict) -> NormalLikelihood:
        """The likelihood whose `get_config` gave `config`."""
        return cls(**config)


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class JointLikelihood:
    """A likelihood of targets that are vectors, or have more axes still: one number in nats for each of them.

    A function (targets [..., D], outputs) -> negative log-likelihood [...] is that of vectors of D elements,
    which need not be independent, such as one of a multivariate normal distribution or of one-hot classes.
    The number is the nats of the whole vector: their sum over its elements, not their mean.
    """

    def __init__(self, function: NegativeLogLikelihood, axes: int = 1):
        """Takes the function, and how many of the targets' last axes belong to one target.

        Raises:
          ValueError: if `axes` is less than 1.
        """
        if axes < 1:
            raise ValueError(f"axes must be at least 1. Received: axes={axes}")
        self.function, self.axes = function, int(axes)

    def __call__(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Returns the function's result."""
        return self.function(targets, outputs)

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {"function": keras.saving.serialize_keras_object(self.function), "axes": self.axes}

    @classmethod
    def from_config(cls, config: dict) -> JointLikelihood:
        """The likelihood whose `get_config` gave `config`."""
        return cls(keras.saving.deserialize_keras_object(config["function"]), config["axes"])


def checked(likelihood: NegativeLogLikelihood, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """The targets, of which all that is computed must be what the likelihood is of; see `checks.within`.

    Args:
      likelihood: any; a function of the user's own takes any targets.
      targets: those that count.
      outputs: of the network.

    Raises:
      ValueError: in eager mode, for classes that are no whole numbers or are not among those of the logits,
        or where a Bernoulli likelihood gets anything outside of 0 and 1.
    """
    if likelihood is categorical and outputs.shape[-1] is not None:
        last = outputs.shape[-1] - 1
        accepted = f"Targets of a categorical likelihood are classes, whole numbers from 0 to {last}"
        classes = checks.within(_exact(targets), 0, last, accepted, whole=True)
        # What is not accepted ends the step; it must not end the computation before that is said.
        return tf.where((classes >= 0) & (classes <= last), classes, tf.zeros_like(classes))
    if likelihood is bernoulli:
        accepted = "Targets of a Bernoulli likelihood are 0 or 1, or probabilities in between"
        return checks.within(_exact(targets), 0, 1, accepted)
    return targets


def _exact(targets: tf.Tensor) -> tf.Tensor:
    """The targets in a type that has whole numbers, and whatever they are compared to."""
    if targets.dtype.is_floating:
        return targets if targets.dtype == tf.float64 else tf.cast(targets, tf.float32)
    return tf.cast(targets, tf.int64)


def evaluate(likelihood: NegativeLogLikelihood, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the nats of every target; an axis of 1 at the end more or less does not matter.

    Targets [B] go with outputs [B, 1], and classes [B, 1] with logits [B, V], as in Keras; a function of the
    user's own gets them as they are.

    Args:
      likelihood: any likelihood.
      targets: the targets, [B, ...].
      outputs: the network's outputs, [B, ...].

    Raises:
      ValueError: if there is not one number for each target: the function has broadcast, or has summed or
        averaged over an axis.
    """
    if likelihood is categorical:
        targets = _with_axes_of(outputs.shape[:-1], targets)
    elif likelihood is bernoulli or isinstance(likelihood, NormalLikelihood):
        targets = _with_axes_of(outputs.shape, targets)
    nats = likelihood(targets, outputs)
    if nats is None or targets.shape.rank is None:
        raise ValueError(
            "A likelihood is a function of targets of a known number of axes, and returns nats. "
            f"Received: targets of shape {targets.shape}, result {nats}"
        )
    checked = _checked(tf.convert_to_tensor(nats), targets, outputs, getattr(likelihood, "axes", 0))
    # Keeps the mask that `ignore_class` of Keras's losses has made.
    keras_internals.set_mask(checked, keras_internals.mask_of(nats))
    return checked


def _checked(nats: tf.Tensor, targets: tf.Tensor, outputs: tf.Tensor, axes: int) -> tf.Tensor:
    """Returns `nats` if it is one number for each target; sizes known later are compared when computed."""
    rank = targets.shape.rank - axes
    static, dynamic = targets.shape[:rank], tf.shape(targets)[:rank]
    accepted = [(static, dynamic)]
    # The axis must be known to be 1: [B] and [B, 1] would broadcast to [B, B], of which B may be unknown.
    if nats.shape.rank == rank + 1 and nats.shape[-1] == 1:
        accepted.append((static.concatenate([1]), tf.concat([dynamic, [1]], 0)))
    if rank > 1 and static[-1] == 1:
        accepted.append((static[:-1], dynamic[:-1]))
    for static, dynamic in accepted:
        if rank > 0 and nats.shape.is_compatible_with(static):
            return tf.ensure_shape(_of_one_shape(nats, static, dynamic), static)
    raise ValueError(
        "A likelihood gives one number in nats for each target: it neither broadcasts targets and outputs of "
        "different shapes, nor sums or averages over an axis (one that has a single number for a vector of "
        "targets is a JointLikelihood). "
        f"Received: targets of shape {targets.shape}, outputs of shape {outputs.shape}, "
        f"result of shape {nats.shape}"
    )


def _with_axes_of(shape: tf.TensorShape, targets: tf.Tensor) -> tf.Tensor:
    """Returns the targets with an axis of 1 added or removed at the end, if that gives them as many axes."""
    ranks = targets.shape.rank, shape.rank
    if None not in ranks and ranks[0] + 1 == ranks[1] and shape[-1] == 1:
        return targets[..., tf.newaxis]
    if None not in ranks and ranks[0] == ranks[1] + 1 and targets.shape[-1] == 1:
        return tf.squeeze(targets, -1)
    return targets


def _like(outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the targets in the outputs' type, if they have their shape."""
    targets = tf.cast(targets, outputs.dtype)
    if not targets.shape.is_compatible_with(outputs.shape):
        raise ValueError(
            "Targets must have the shape of the outputs. "
            f"Received: targets of shape {targets.shape}, outputs of shape {outputs.shape}"
        )
    return _of_one_shape(targets, outputs.shape, tf.shape(outputs))


def _of_one_shape(values: tf.Tensor, static: tf.TensorShape, dynamic: tf.Tensor) -> tf.Tensor:
    """Returns the values, whose shape, if not known beforehand, must be `dynamic` when they are computed."""
    if values.shape.is_fully_defined() and static.is_fully_defined():
        return values
    # Unlike a sum this does not broadcast, and unlike an assertion XLA does not leave it out.
    return tf.add_n([values, tf.zeros(dynamic, values.dtype)], name="one_number_for_each_target")


# The argument `likelihood` of a model: one likelihood, or a structure of those of its outputs.

_NAMED: dict[str, NegativeLogLikelihood] = {"categorical": categorical, "bernoulli": bernoulli}


def get(likelihood: Any) -> Any:
    """Returns functions (targets, outputs) -> nats from their names, their serialised forms, or themselves.

    Args:
      likelihood: a likelihood, or a list, a tuple or a dictionary of those of several outputs, which may be
        nested; in those, None means an output that has no targets.

    Raises:
      ValueError: if it is anything else.
    """
    found = _get(likelihood)
    if not any(one is not None for one in keras.tree.flatten(found)):
        raise ValueError(f"A likelihood is needed. Received: likelihood={likelihood!r}")
    return found


def _get(likelihood: Any) -> Any:
    if isinstance(likelihood, Mapping) and "class_name" in likelihood:
        return keras.saving.deserialize_keras_object(dict(likelihood))
    if isinstance(likelihood, Mapping):
        return {name: _get(one) for name, one in likelihood.items()}
    if isinstance(likelihood, list | tuple):
        return [_get(one) for one in likelihood]
    if isinstance(likelihood, str) and likelihood in _NAMED:
        return _NAMED[likelihood]
    if likelihood is not None and not callable(likelihood):
        raise ValueError(
            f"likelihood must be one of {sorted(_NAMED)}, a NormalLikelihood, or a function (targets, "
            "outputs) -> elementwise negative log-likelihood, or for several outputs a structure of those. "
            f"Received: likelihood={likelihood!r}"
        )
    return likelihood


def serialize(likelihood: Any) -> Any:
    """Returns the form of a likelihood that `get` takes back."""
    if isinstance(likelihood, Mapping):
        return {name: serialize(one) for name, one in likelihood.items()}
    if isinstance(likelihood, list | tuple):
        return [serialize(one) for one in likelihood]
    for name, function in _NAMED.items():
        if function is likelihood:
            return name
    return keras.saving.serialize_keras_object(likelihood)
