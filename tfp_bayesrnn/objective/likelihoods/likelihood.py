"""What a likelihood is: a distribution of targets, given a network's outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn import keras_internals
from tfp_bayesrnn.objective.likelihoods import keras_losses, shapes

NegativeLogLikelihood = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(targets [...], outputs) -> nats [...], one number for each target."""

SATURATING = frozenset({"exponential", "sigmoid", "softmax", "softplus"})
"""Activations whose results are not the raw numbers that most likelihoods take."""


class Likelihood:
    """p(y | outputs): a distribution of targets, whose parameters are made of a network's outputs.

    A subclass says which distribution it is (`distribution`), and how many outputs there are for each target
    (`parameters`, on a last axis of their own). Its negative log-likelihood, its mean, its variance and its
    samples follow. Outputs are float32: `nats` and the training step cast them.

    Attributes:
      parameters: how many outputs each target has, on the outputs' last axis; None where outputs have the
        shape of the targets.
      is_discrete: whether targets are whole numbers.
      has_moments: whether there is a distribution, and so a mean and a variance.
      is_classes: whether targets are classes, so that uncertainty is entropy and not variance.
      refused_activations: activations that the network may not end in, as the likelihood applies its own.
    """

    parameters: int | None = None
    is_discrete: ClassVar[bool] = False
    is_classes: ClassVar[bool] = False
    has_moments: ClassVar[bool] = True
    refused_activations: frozenset[str] = SATURATING

    def distribution(self, outputs: tf.Tensor) -> tfd.Distribution:
        """The distribution of the targets, float32, whose batch shape is that of the targets.

        Args:
          outputs: the network's outputs, float32, [...] or [..., parameters].
        """
        raise NotImplementedError

    def __call__(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The negative log-likelihood of every target, in nats.

        Args:
          targets: the targets [...].
          outputs: the network's outputs, float32, [...] or [..., parameters].
        """
        distribution = self.distribution(outputs)
        return -distribution.log_prob(shapes.like(targets, distribution.batch_shape, outputs))

    def mean(self, outputs: tf.Tensor) -> tf.Tensor:
        """The expected target, float32 [...]; of classes the probabilities [..., V]."""
        return self.distribution(outputs).mean()

    def variance(self, outputs: tf.Tensor) -> tf.Tensor:
        """The variance of a target, in its squared units: what is uncertain if the weights are known."""
        return self.distribution(outputs).variance()

    def sample(self, outputs: tf.Tensor, seed: Any) -> tf.Tensor:
        """One target for each, of the shape of the targets; the seed is int32 [2]."""
        return self.distribution(outputs).sample(seed=seed)

    # What a subclass may say otherwise.

    def encoded(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The targets, if they come in another form, in that of the likelihood."""
        del outputs
        return targets

    def aligned(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The targets with an axis of 1 added or removed at their end, where the outputs ask for that.

        So targets [B] go with outputs [B, 1], and targets [B, 1] with outputs [B, parameters], as in Keras.
        """
        shape = outputs.shape if self.parameters is None else outputs.shape[:-1]
        return shapes.with_axes_of(shape, targets)

    def check_outputs(self, outputs: tf.Tensor) -> None:
        """Checks what is known of the outputs before anything is computed.

        Raises:
          ValueError: if their last axis is not that of the parameters.
        """
        if self.parameters is not None and outputs.shape[-1] not in (None, self.parameters):
            raise ValueError(
                f"{type(self).__name__} takes {self.parameters} outputs for each target, on a last axis of "
                f"their own: a layer Dense({self.parameters}) for one target in a row, and for H of them "
                f"Dense({self.parameters} * H) and Reshape((H, {self.parameters})). "
                f"Received: outputs of shape {outputs.shape}"
            )

    def checked(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The targets, of which all that is computed must be what the likelihood is of; see `checks.within`.

        Args:
          targets: those that count.
          outputs: of the network.

        Raises:
          ValueError: in eager mode, where they are not.
        """
        del outputs
        return targets

    def counted(self, targets: tf.Tensor) -> tf.Tensor | None:
        """Which targets are predictions at all, bool [...]; None for all of them."""
        del targets
        return None

    def target_axes(self, outputs: tf.Tensor) -> int:
        """How many of the targets' last axes belong to one target."""
        del outputs
        return 0

    def averaged(self, outputs: tf.Tensor) -> tf.Tensor:
        """What metrics see of outputs under S draws of the weights, [S, ...]: the mean of their average."""
        mean = tf.reduce_mean(self.mean(outputs), axis=0)
        return mean if self.parameters is None else mean[..., tf.newaxis]

    def predictions(self, outputs: tf.Tensor) -> tf.Tensor:
        """What metrics see of outputs: themselves, or the mean, [..., 1], where they are parameters.

        Keras's metrics take a mean over the last axis, which is to be that of one target alone.
        """
        if self.parameters is None:
            return outputs
        return self.mean(tf.cast(outputs, tf.float32))[..., tf.newaxis]

    def metric(self, name: str) -> Any:
        """Keras's metric of a name, where its meaning depends on the likelihood; else the name."""
        return name

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Likelihood:
        """The likelihood whose `get_config` gave `config`."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.get_config() == self.get_config()

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def nats(likelihood: Likelihood, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the nats of every target; an axis of 1 at the end more or less does not matter.

    Args:
      likelihood: any likelihood.
      targets: the targets, [B, ...].
      outputs: the network's outputs, [B, ...], float32.

    Raises:
      ValueError: if there is not one number for each target: a function has broadcast, or has summed or
        averaged over an axis; or outputs or targets are not those of the likelihood.
    """
    likelihood.check_outputs(outputs)
    targets = likelihood.encoded(targets, outputs)
    targets = likelihood.aligned(likelihood.checked(targets, outputs), outputs)
    found = likelihood(targets, outputs)
    if found is None or targets.shape.rank is None:
        raise ValueError(
            "A likelihood is a function of targets of a known number of axes, and returns nats. "
            f"Received: targets of shape {targets.shape}, result {found}"
        )
    one_each = shapes.one_for_each(
        tf.convert_to_tensor(found), targets, outputs, likelihood.target_axes(outputs)
    )
    # Keeps the mask that `ignore_class` of Keras's losses has made, in a function of the user's own.
    keras_internals.set_mask(one_each, keras_internals.mask_of(found))
    return one_each


class FunctionLikelihood(Likelihood):
    """A function of the user's own: it has nats, but no mean, no variance and no samples."""

    has_moments = False
    refused_activations = frozenset()

    def __init__(self, function: Callable[..., Any]):
        """Takes the function; see `NegativeLogLikelihood`.

        Raises:
          ValueError: if it is a loss of Keras.
        """
        keras_losses.refuse(function)
        self.function = function

    def __call__(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The function's result."""
        return self.function(targets, outputs)

    def aligned(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The targets as they are."""
        del outputs
        return targets

    def averaged(self, outputs: tf.Tensor) -> tf.Tensor:
        """The outputs' mean."""
        return tf.reduce_mean(outputs, axis=0)

    def distribution(self, outputs: tf.Tensor) -> tfd.Distribution:
        """Raises `ValueError`."""
        raise ValueError(
            "A function is known by its negative log-likelihood alone: it has no mean, no variance and no "
            "samples. Accepted for those: DistributionLikelihood(outputs -> a distribution of TensorFlow "
            f"Probability), or a likelihood by its name. Received: likelihood={self.function!r}"
        )

    def get_config(self) -> dict[str, Any]:
        """The function, serialised."""
        return {"function": keras.saving.serialize_keras_object(self.function)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FunctionLikelihood:
        """The likelihood whose `get_config` gave `config`."""
        return cls(**{**config, "function": keras.saving.deserialize_keras_object(config["function"])})

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(self.function)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.function!r})"


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class JointLikelihood(FunctionLikelihood):
    """A likelihood of targets that are vectors, or have more axes still: one number in nats for each of them.

    A function (targets [..., D], outputs) -> negative log-likelihood [...] is that of vectors of D elements,
    which need not be independent. The number is the nats of the whole vector: their sum over its elements,
    not their mean. `DistributionLikelihood` does the same for a distribution of TensorFlow Probability.
    """

    def __init__(self, function: NegativeLogLikelihood, axes: int = 1):
        """Takes the function, and how many of the targets' last axes belong to one target.

        Raises:
          ValueError: if `axes` is less than 1.
        """
        if axes < 1:
            raise ValueError(f"axes must be at least 1. Received: axes={axes}")
        super().__init__(function)
        self.axes = int(axes)

    def target_axes(self, outputs: tf.Tensor) -> int:
        """The number of axes that was given."""
        del outputs
        return self.axes

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "axes": self.axes}


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class DistributionLikelihood(FunctionLikelihood):
    """The likelihood of any distribution of TensorFlow Probability.

    >>> def mixture(outputs):  # [..., 6]
    ...     logits, location, scale = tf.split(outputs, 3, axis=-1)
    ...     return tfd.MixtureSameFamily(
    ...         tfd.Categorical(logits), tfd.Normal(location, tf.nn.softplus(scale))
    ...     )
    >>> model = BayesianModel(network, likelihood=DistributionLikelihood(mixture))

    Its batch shape is that of the targets; where it has an event shape, a target is a whole event, whose
    nats are one number. Its mean, its variance, its quantiles and its samples are used where they are asked
    for, so it needs only those that are.
    """

    has_moments = True

    def __init__(self, function: Callable[[tf.Tensor], tfd.Distribution]):
        """Takes the function from outputs, float32 [B, ...], to the distribution of their targets.

        It is saved with the model if it is registered with `keras.saving.register_keras_serializable`.
        """
        if not callable(function) or isinstance(function, tfd.Distribution):
            raise ValueError(
                "DistributionLikelihood takes a function from outputs to a distribution of TensorFlow "
                f"Probability. Received: {function!r}"
            )
        super().__init__(function)

    def distribution(self, outputs: tf.Tensor) -> tfd.Distribution:
        """The function's result.

        Raises:
          ValueError: if it is no distribution.
        """
        found = self.function(outputs)
        if not isinstance(found, tfd.Distribution):
            raise ValueError(
                "The function of a DistributionLikelihood returns a distribution of TensorFlow Probability. "
                f"Received: {found!r}"
            )
        return found

    def __call__(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The negative log-probability of every target, [...], in nats."""
        distribution = self.distribution(outputs)
        shape = distribution.batch_shape.concatenate(distribution.event_shape)
        return -distribution.log_prob(shapes.like(targets, shape, outputs, distribution.dtype))

    def aligned(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The targets with an axis of 1 added or removed at their end, if the distribution asks for that."""
        distribution = self.distribution(outputs)
        return shapes.with_axes_of(distribution.batch_shape.concatenate(distribution.event_shape), targets)

    def target_axes(self, outputs: tf.Tensor) -> int:
        """The number of axes of an event."""
        return len(self.distribution(outputs).event_shape)

    def averaged(self, outputs: tf.Tensor) -> tf.Tensor:
        """The mean of the distribution's means."""
        return tf.reduce_mean(self.mean(outputs), axis=0)

    def predictions(self, outputs: tf.Tensor) -> tf.Tensor:
        """The distribution's mean."""
        return self.mean(tf.cast(outputs, tf.float32))
