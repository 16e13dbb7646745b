"""Converts a trained deterministic Keras network to a variational one, and back.

model = to_bayesian(trained, training_rows=26_540, prior="empirical")
model.compile(keras.optimizers.SGD(1.0), clip_norm=5.0)
model.fit(inputs, targets)
to_deterministic(model).save("mean.keras")  # Nothing but Keras is needed to load it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from tfp_bayesrnn.conversion import cloning, layers
from tfp_bayesrnn.distributions import CentredNormalPrior, Prior, VariationalFamily, families
from tfp_bayesrnn.distributions.softplus import rho_from_scale, scale_from_rho
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.model.bayesian_model import BayesianModel
from tfp_bayesrnn.objective.likelihoods import NegativeLogLikelihood

Scales = Callable[[np.ndarray, np.random.Generator], np.ndarray]

RELATIVE_SCALE = 0.1  # Sigma in units of |w| where no other scale is requested.
SMALLEST_SCALE = 1e-4  # The least sigma relative to a weight: that of a weight of 0 would be 0.


def to_bayesian(
    model: keras.Model,
    training_rows: float | None = None,
    prior: str | Prior = "zero",
    initial_scale: float | Sequence[float] | None = None,
    relative_scale: float | None = None,
    likelihood: str | NegativeLogLikelihood = "categorical",
    kl_weight: float = 1.0,
    seed: int = 0,
    posterior: VariationalFamily | None = None,
    **kwargs: Any,
) -> BayesianModel:
    """Makes a variational model, ready for `compile`, whose posterior mean is a trained deterministic one.

    `Embedding`, `LSTM`, `GRU` and `Dense` layers become variational, wherever they are: in networks within
    the network, in a `Bidirectional` or a `TimeDistributed`. As in layers made by hand, the bias of a `Dense`
    has no distribution. Every other layer stays as it is, with its weights, and so do those with
    `trainable=False` and subclasses of the four. The given model is left alone; nothing is shared with it.

    All options of the layers are carried over but these: a regulariser of a weight is left out with a
    warning, since the KL divergence to the prior takes its place; a constraint, LoRA or quantisation is
    refused; `use_cudnn` and `implementation` say nothing of what a layer computes and are dropped.

    Args:
      model: a built `keras.Sequential` or `keras.Model(inputs, outputs)`. How it was compiled is ignored.
      training_rows: the number of rows in one pass over the training data; see `BayesianModel`.
      prior: "zero" for normal distributions around 0, the default of the layers; "empirical" for normal
        distributions of scale 1 centred on the trained weights, as MOPED has them (Krishnan et al., 2020); or
        any `Prior`. `CentredNormalPrior(scale)` is "empirical" with another scale.
      initial_scale: sigma, for all weights; or (low, high): rho is drawn uniformly between the values that
        belong to both ends.
      relative_scale: sigma in units of |w|, but at least 1e-4, in place of `initial_scale`; 0.1 where neither
        is given.
      likelihood: the likelihood of the outputs; see `BayesianModel`. "categorical" and "bernoulli" take
        logits; for a model that ends in probabilities, pass `CategoricalLikelihood(from_logits=False)` or
        `BernoulliLikelihood(from_logits=False)`.
      kl_weight: the weight of the KL; see `BayesianModel`.
      seed: the seed of the draws in training, and of an `initial_scale` that is a range.
      posterior: the variational family; None for `MeanFieldNormal`. It must have members with the sigmas that
        are asked for: a `KTiedNormal` has them where `initial_scale` is one number.
      **kwargs: further arguments of `BayesianModel`, such as `kl_warmup_steps`, `sharpening` and `name`.

    Raises:
      InputError: if the model cannot be converted: it is not built, is subclassed, has nothing to convert,
        has layers with options that have no variational counterpart, or ends in probabilities where the
        likelihood takes logits.
      ValueError: if another argument is bad, or the variational family lacks the sigmas that are asked for.
    """
    if not isinstance(model, keras.Model) or isinstance(model, BayesianModel):
        raise ValueError(f"model must be a deterministic keras.Model. Received: model={model!r}")
    scales = _scales(initial_scale, relative_scale)
    family = {} if posterior is None else {"posterior": families.get(posterior)}
    conversion = _Conversion({"prior": _prior(prior), **family}, scales, seed)
    network = cloning.copy_network(model, conversion.replace, conversion.fill)
    if not conversion.has_converted:
        raise InputError(
            f"model {model.name!r} has nothing to convert: no Embedding, LSTM, GRU or Dense layer whose "
            "weights are trainable"
        )
    bayesian = BayesianModel(
        network, training_rows, likelihood=likelihood, kl_weight=kl_weight, seed=seed, **kwargs
    )
    bayesian.build()
    return bayesian


def to_deterministic(model: keras.Model) -> keras.Model:
    """Returns a network of Keras's own layers that computes what the posterior mean does.

    It is for programs that have Keras but not this library. Variational layers become Keras's, holding
    the means (0 where weights are pruned), and this library's `Dropout` becomes `keras.layers.Dropout`. Other
    layers stay as they are. Nothing is shared with the given model.

    Args:
      model: a `BayesianModel`, or a built `keras.Sequential` or `keras.Model(inputs, outputs)`.

    Raises:
      InputError: if the model is not built or is subclassed, or a layer of this library has no counterpart in
        Keras.
      ValueError: if `model` is no Keras model.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a BayesianModel or another keras.Model. Received: model={model!r}")
    network = model.network if isinstance(model, BayesianModel) else model
    return cloning.copy_network(network, layers.plain, layers.fill_plain)


class _Conversion:
    """Makes the variational layers that replace those of a network, and fills them."""

    def __init__(self, distributions: Mapping[str, Any], scales: Scales, seed: int):
        self._distributions = distributions
        self._scales = scales
        self._generator = np.random.default_rng(seed)
        self.has_converted = False

    def replace(self, layer: Layer) -> Layer | None:
        """Returns the variational layer, not built; None to leave `layer` as it is."""
        if type(layer) not in layers.VARIATIONAL or not layer.trainable:
            return None
        layers.check_weights(layer)
        if not any(variable.trainable for variable in layers.weights(layer).values()):
            return None
        self.has_converted = True
        return layers.variational(layer, **self._distributions)

    def fill(self, source: Layer, target: Layer) -> None:
        """Sets the means of the variational layer to the weights of its original."""
        values = layers.weights(source)
        for name, weight in layers.weights(target).items():
            mean = np.asarray(keras.ops.convert_to_numpy(values[name]), np.float32)
            if not np.isfinite(mean).all():
                raise InputError(f"layer {source.name!r} cannot be converted: its {name} is not finite")
            weight.assign(mean, self._scales(mean, self._generator) if weight.is_variational else None)


def _prior(prior: str | Prior) -> Prior | None:
    if isinstance(prior, str) and prior in ("zero", "empirical"):
        return CentredNormalPrior() if prior == "empirical" else None
    if isinstance(prior, Prior):
        return prior
    raise ValueError(f"prior must be 'zero', 'empirical' or a Prior. Received: prior={prior!r}")


def _scales(initial: float | Sequence[float] | None, relative: float | None) -> Scales:
    """Returns a function of the means and a generator that gives the sigmas."""
    if initial is not None and relative is not None:
        raise ValueError(
            "Give either initial_scale or relative_scale. "
            f"Received: initial_scale={initial}, relative_scale={relative}"
        )
    if initial is None:
        relative = RELATIVE_SCALE if relative is None else relative
        if not 0.0 < relative < np.inf:
            raise ValueError(f"relative_scale must be positive. Received: relative_scale={relative}")
        return lambda mean, _: np.maximum(relative * np.abs(mean), SMALLEST_SCALE)
    ends = np.ravel(np.asarray(initial, np.float64))
    low, high = (ends[0], ends[-1]) if ends.size in (1, 2) else (np.nan, np.nan)
    if not 1e-5 < low <= high < np.inf:
        raise ValueError(
            "initial_scale must be a number, or (low, high) with low <= high, above 1e-5. "
            f"Received: initial_scale={initial}"
        )
    least, most = rho_from_scale(np.array([low, high]))
    return lambda mean, generator: np.asarray(scale_from_rho(generator.uniform(least, most, mean.shape)))
