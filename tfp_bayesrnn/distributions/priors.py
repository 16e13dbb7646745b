"""Priors of a weight: serialisable specifications that give a `tfd.Distribution` for a weight's shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn.distributions.scale_mixture import ScaleMixtureNormal

AddVariable = Callable[..., keras.Variable]


class Prior:
    """The base class of priors. One specification may serve many weights, so it owns no variable."""

    def add_variables(self, add_variable: AddVariable) -> dict[str, keras.Variable]:
        """Makes the prior's own variables for one weight: none, unless it learns or has centres.

        Args:
          add_variable: a function that makes one variable, as `keras.layers.Layer.add_weight`; without a
            `shape`, it has the weight's. With `initializer="mean"` it starts from the posterior's mean, which
            it follows whenever that is set, but not in training.
        """
        return {}

    # To a type checker `*_` says that a prior takes the variables that it makes, and no others.
    def distribution(self, shape: Sequence[int], *_: Any, **variables: Any) -> tfd.Distribution:
        """The distribution of a weight of this shape; its `log_prob` of the weight is one scalar."""
        raise NotImplementedError

    def stddev(self, shape: Sequence[int]) -> float:
        """The standard deviation of one weight, by which the posterior's initial scale is measured.

        Raises:
          ValueError: if the distribution has no finite one.
        """
        try:
            with tf.init_scope():  # A layer may be built while a graph is traced; this is a plain number.
                stddev = float(tf.reduce_mean(self.distribution(shape).stddev()))
        except NotImplementedError:
            stddev = math.nan
        if not 0.0 < stddev < math.inf:
            raise ValueError(
                "The prior has no finite standard deviation to measure the posterior's initial scale by: "
                "give one, as in DistributionPrior(factory, stddev=0.1). "
                f"Received: distribution={self.distribution(shape).name!r}, stddev={stddev}"
            )
        return stddev

    def get_config(self) -> dict:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Prior:
        """The prior whose `get_config` gave `config`."""
        return cls(**config)


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class ScaleMixturePrior(Prior):
    """pi N(0, s1^2) + (1 - pi) N(0, s2^2) (Fortunato et al., 2017, eq. 18); see `ScaleMixtureNormal`.

    The defaults are those of the authors' released code. The paper searched pi in {0.25, 0.5, 0.75},
    log s1 in {0, -1, -2} and log s2 in {-6, -7, -8}.
    """

    def __init__(
        self, pi: float = 0.25, log_sigma1: float = -1.0, log_sigma2: float = -7.0, granularity: str = "row"
    ):
        self.pi = float(pi)
        self.log_sigma1 = float(log_sigma1)
        self.log_sigma2 = float(log_sigma2)
        self.granularity = granularity
        self.distribution(())  # Reports bad values where they were written.

    def distribution(self, shape: Sequence[int]) -> tfd.Distribution:
        """The `ScaleMixtureNormal` of this shape."""
        return ScaleMixtureNormal(
            shape, self.pi, math.exp(self.log_sigma1), math.exp(self.log_sigma2), self.granularity
        )

    def stddev(self, shape: Sequence[int] = ()) -> float:
        """sqrt(pi s1^2 + (1 - pi) s2^2)."""
        return math.sqrt(
            self.pi * math.exp(2 * self.log_sigma1) + (1 - self.pi) * math.exp(2 * self.log_sigma2)
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "pi": self.pi,
            "log_sigma1": self.log_sigma1,
            "log_sigma2": self.log_sigma2,
            "granularity": self.granularity,
        }


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class FanInNormalPrior(Prior):
    """N(0, gain^2 / fan-in) for every weight: what `None` stands for where a layer takes a `prior`.

    The fan-in of a weight is the number of inputs that each of its outputs sums over: the product of all axes
    but the last, and 1 for a bias. So a sum is of the order of its inputs under the prior, in a layer of any
    size. An embedding looks up one row: `VariationalEmbedding` has a `NormalPrior()`, as of a fan-in of 1.

    The KL from a mean-field normal posterior to this prior is computed in closed form.
    """

    def __init__(self, gain: float = 1.0):
        if not 0.0 < gain < math.inf:
            raise ValueError(f"gain must be positive. Received: gain={gain}")
        self.gain = float(gain)

    def distribution(self, shape: Sequence[int]) -> tfd.Distribution:
        """`tfd.Independent` over `tfd.Normal`."""
        normal = tfd.Normal(tf.zeros(shape), self.stddev(shape))
        return tfd.Independent(normal, reinterpreted_batch_ndims=len(shape))

    def stddev(self, shape: Sequence[int]) -> float:
        """gain / sqrt(fan-in)."""
        return self.gain / math.sqrt(max(1, math.prod(shape[:-1])))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"gain": self.gain}


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class NormalPrior(Prior):
    """N(loc, scale^2) for every weight; with `learned=True` the scale is trained (empirical Bayes).

    A learned scale is one variable per weight tensor. The KL from a mean-field normal posterior to this prior
    is computed in closed form.
    """

    def __init__(self, scale: float = 1.0, loc: float = 0.0, learned: bool = False):
        if not scale > 0.0:
            raise ValueError(f"scale must be positive. Received: scale={scale}")
        self.scale = float(scale)
        self.loc = float(loc)
        self.learned = bool(learned)

    def add_variables(self, add_variable: AddVariable) -> dict[str, keras.Variable]:
        """Makes `log_scale`, where the scale is learned."""
        if not self.learned:
            return {}
        initializer = keras.initializers.Constant(math.log(self.scale))
        return {"log_scale": add_variable(name="prior_log_scale", shape=(), initializer=initializer)}

    def distribution(self, shape: Sequence[int], log_scale: tf.Tensor | None = None) -> tfd.Distribution:
        """`tfd.Independent` over `tfd.Normal`."""
        scale = self.scale if log_scale is None else tf.exp(log_scale)
        normal = tfd.Normal(tf.fill(shape, self.loc), tf.broadcast_to(scale, shape))
        return tfd.Independent(normal, reinterpreted_batch_ndims=len(shape))

    def stddev(self, shape: Sequence[int] = ()) -> float:
        """The scale; where it is learned, the initial one."""
        return self.scale

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"scale": self.scale, "loc": self.loc, "learned": self.learned}


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class CentredNormalPrior(Prior):
    """N(centre, scale^2), with a centre of its own for every element of a weight (Krishnan et al., 2020).

    The centres are a variable of the weight, which is saved with it and never trained. The KL from a
    mean-field normal posterior to this prior is computed in closed form.
    """

    def __init__(self, scale: float = 1.0, centre: Any = None):
        """Takes the scale, and the centres.

        Args:
          scale: the standard deviation of every element.
          centre: the centres: an array of the weight's shape, such as a matrix of pretrained embeddings, or
            one number. None for the weight's initial mean, whatever its initializer; where the mean is set
            to trained weights, as by `tfp_bayesrnn.to_bayesian`, those are the centres.

        Raises:
          ValueError: if the scale is not positive, or the centres are no finite numbers.
        """
        if not scale > 0.0:
            raise ValueError(f"scale must be positive. Received: scale={scale}")
        self.scale = float(scale)
        self.centre = None if centre is None else np.asarray(centre, np.float32)
        if self.centre is not None and not np.all(np.isfinite(self.centre)):
            raise ValueError(f"centre must be an array of finite numbers. Received: centre={centre!r}")

    def add_variables(self, add_variable: AddVariable) -> dict[str, keras.Variable]:
        """Makes `centre`, of the weight's shape; raises `ValueError` if `centre` has another."""
        centre: Any = self.centre

        def given(shape: Sequence[int], dtype: Any = None) -> tf.Tensor:
            if centre.shape not in ((), tuple(shape)):
                raise ValueError(
                    "centre must have the shape of the weight that has this prior, or be one number. "
                    f"Received: centre of shape {centre.shape}, weight of shape {tuple(shape)}"
                )
            return tf.cast(tf.broadcast_to(centre, shape), dtype or tf.float32)

        initializer = "mean" if centre is None else given
        return {"centre": add_variable(name="prior_centre", initializer=initializer, trainable=False)}

    def distribution(self, shape: Sequence[int], centre: tf.Tensor | None = None) -> tfd.Distribution:
        """`tfd.Independent` over `tfd.Normal`; without centres it is that of a weight around 0."""
        centre = tf.zeros(shape) if centre is None else centre
        return tfd.Independent(tfd.Normal(centre, self.scale), reinterpreted_batch_ndims=len(shape))

    def stddev(self, shape: Sequence[int] = ()) -> float:
        """The scale."""
        return self.scale

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"scale": self.scale, "centre": None if self.centre is None else self.centre.tolist()}


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class DistributionPrior(Prior):
    """Any prior: `factory(shape)` returns a `tfd.Distribution` whose event is the whole weight.

    `factory` must be registered with `keras.saving.register_keras_serializable` if the model is to be saved.
    `stddev` is the unit of the posterior's initial scale, for a distribution that has no standard deviation
    of its own (a horseshoe, say).
    """

    def __init__(self, factory: Callable[[Sequence[int]], tfd.Distribution], stddev: float | None = None):
        self.factory = keras.saving.deserialize_keras_object(factory) if _is_config(factory) else factory
        if not callable(self.factory):
            raise ValueError(f"factory must be callable with a shape. Received: factory={factory!r}")
        if stddev is not None and not stddev > 0.0:
            raise ValueError(f"stddev must be positive. Received: stddev={stddev}")
        self._stddev = stddev

    def distribution(self, shape: Sequence[int]) -> tfd.Distribution:
        """Returns the distribution that the factory makes for this shape.

        Raises:
          ValueError: if it is no distribution, or its event is not the whole weight.
        """
        distribution = self.factory(tuple(shape))
        if not isinstance(distribution, tfd.Distribution):
            raise ValueError(
                f"A prior factory must return a tfd.Distribution. Received: {type(distribution).__name__}"
            )
        if tuple(distribution.batch_shape) or tuple(distribution.event_shape) != tuple(shape):
            raise ValueError(
                "The distribution of a prior factory must have an empty batch shape and the weight's shape "
                "as its event shape (wrap it in tfd.Independent). Received: "
                f"batch_shape={distribution.batch_shape}, event_shape={distribution.event_shape}, "
                f"weight shape={tuple(shape)}"
            )
        return distribution

    def stddev(self, shape: Sequence[int]) -> float:
        """The `stddev` given to the constructor, else the distribution's own, averaged over the weight."""
        return super().stddev(shape) if self._stddev is None else self._stddev

    def get_config(self) -> dict[str, Any]:
        """The factory, as Keras serialises functions, and `stddev`."""
        return {"factory": keras.saving.serialize_keras_object(self.factory), "stddev": self._stddev}


def get(prior: Prior | dict | Callable | None) -> Prior:
    """Makes a `Prior` of one, its serialised form, a distribution factory, or None (`FanInNormalPrior()`)."""
    if prior is None:
        return FanInNormalPrior()
    if _is_config(prior):
        prior = keras.saving.deserialize_keras_object(prior)
    if isinstance(prior, Prior):
        return prior
    if callable(prior):
        return DistributionPrior(prior)
    raise ValueError(
        "prior must be a tfp_bayesrnn prior, a function from a shape to a tfd.Distribution, or None. "
        f"Received: prior={prior!r}"
    )


def _is_config(value: object) -> bool:
    return isinstance(value, dict) and "class_name" in value
