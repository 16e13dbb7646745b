"""The argument `likelihood` of a model: one likelihood, or a structure of those of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

from tfp_bayesrnn.objective.likelihoods import keras_losses
from tfp_bayesrnn.objective.likelihoods.classes import BernoulliLikelihood, CategoricalLikelihood
from tfp_bayesrnn.objective.likelihoods.counts import NegativeBinomialLikelihood, PoissonLikelihood
from tfp_bayesrnn.objective.likelihoods.likelihood import FunctionLikelihood, Likelihood
from tfp_bayesrnn.objective.likelihoods.quantiles import QuantileLikelihood
from tfp_bayesrnn.objective.likelihoods.real import NormalLikelihood, StudentTLikelihood

NAMED: dict[str, Callable[[], Likelihood]] = {
    "bernoulli": BernoulliLikelihood,
    "categorical": CategoricalLikelihood,
    "negative_binomial": NegativeBinomialLikelihood,
    "normal": NormalLikelihood,
    "poisson": PoissonLikelihood,
    "quantile": QuantileLikelihood,
    "student_t": StudentTLikelihood,
}


def get(likelihood: Any) -> Any:
    """Returns likelihoods from their names, their serialised forms, functions, or themselves.

    Args:
      likelihood: a likelihood, or a list, a tuple or a dictionary of those of several outputs, which may be
        nested; in those, None means an output that has no targets.

    Raises:
      ValueError: if it is anything else, such as a loss of Keras.
    """
    found = _get(likelihood)
    if not any(one is not None for one in keras.tree.flatten(found)):
        raise ValueError(f"A likelihood is needed. Received: likelihood={likelihood!r}")
    return found


def _get(likelihood: Any) -> Any:
    if isinstance(likelihood, Mapping) and "class_name" in likelihood:
        return _get(keras.saving.deserialize_keras_object(dict(likelihood)))
    if isinstance(likelihood, Mapping):
        return {name: _get(one) for name, one in likelihood.items()}
    if isinstance(likelihood, list | tuple):
        return [_get(one) for one in likelihood]
    if isinstance(likelihood, str) and likelihood in NAMED:
        return NAMED[likelihood]()
    if likelihood is None or isinstance(likelihood, Likelihood):
        return likelihood
    keras_losses.refuse(likelihood)
    if not callable(likelihood) or isinstance(likelihood, type):
        raise ValueError(
            f"likelihood must be one of {sorted(NAMED)}, a likelihood such as NormalLikelihood(scale) or "
            "DistributionLikelihood(outputs -> a distribution), or a function (targets, outputs) -> "
            "elementwise negative log-likelihood, or for several outputs a structure of those. "
            f"Received: likelihood={likelihood!r}"
        )
    return FunctionLikelihood(likelihood)


def serialize(likelihood: Any) -> Any:
    """Returns the form of a likelihood that `get` takes back."""
    if isinstance(likelihood, Mapping):
        return {name: serialize(one) for name, one in likelihood.items()}
    if isinstance(likelihood, list | tuple):
        return [serialize(one) for one in likelihood]
    for name, make in NAMED.items():
        if likelihood == make():
            return name
    if type(likelihood) is FunctionLikelihood:
        return keras.saving.serialize_keras_object(likelihood.function)
    return keras.saving.serialize_keras_object(likelihood)
