"""From a trained deterministic Keras network to a variational one, and back.

model = to_bayesian(trained, training_rows=26_540, prior="empirical")
model.compile(keras.optimizers.SGD(1.0), clip_norm=5.0)
model.fit(inputs, targets)
to_deterministic(model).save("mean.keras")  # Nothing but Keras is needed to load it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfp_bayesrnn import keras_internals
from tfp_bayesrnn.conversion import cloning
from tfp_bayesrnn.distributions import CentredNormalPrior, Prior, VariationalFamily, families, priors
from tfp_bayesrnn.distributions.softplus import rho_from_scale, scale_from_rho
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.layers import (
    Dropout,
    VariationalDense,
    VariationalEmbedding,
    VariationalGRU,
    VariationalLSTM,
)
from tfp_bayesrnn.layers.base import VariationalLayer
from tfp_bayesrnn.model.bayesian_model import BayesianModel
from tfp_bayesrnn.objective.likelihoods import NegativeLogLikelihood

Layer = keras.layers.Layer
Scales = Callable[[np.ndarray, np.random.Generator], np.ndarray]

RELATIVE_SCALE = 0.1  # Sigma in units of |w| where nothing else is asked for.
SMALLEST_SCALE = 1e-4  # Of a sigma relative to a weight: that of a weight of 0 would be 0.

_VARIATIONAL = {
    keras.layers.Embedding: VariationalEmbedding,
    keras.layers.LSTM: VariationalLSTM,
    keras.layers.GRU: VariationalGRU,
    keras.layers.Dense: VariationalDense,
}
_PLAIN = {Dropout: keras.layers.Dropout, **{ours: plain for plain, ours in _VARIATIONAL.items()}}

# Options that the constructors hand on to the base classes of both kinds.
_COMMON = {"name", "trainable", "dtype", "activity_regularizer", "unroll", "zero_output_for_mask"}
_WEIGHTS = ("embeddings", "kernel", "recurrent_kernel", "bias")


def to_bayesian(
    model: keras.Model,
    training_rows: float,
    prior: str | Prior = "zero",
    initial_scale: float | Sequence[float] | None = None,
    relative_scale: float | None = None,
    likelihood: str | NegativeLogLikelihood = "categorical",
    kl_weight: float = 1.0,
    seed: int = 0,
    posterior: VariationalFamily | None = None,
    **kwargs,
) -> BayesianModel:
    """A variational model whose posterior mean is a trained deterministic one, ready for `compile` and `fit`.

    `Embedding`, `LSTM`, `GRU` and `Dense` layers become variational, wherever they are: in networks within
    the network, in a `Bidirectional` or a `TimeDistributed`. As in layers made by hand, the bias of a `Dense`
    has no distribution. Every other layer stays as it is, with its weights, and so do those with
    `trainable=False` and subclasses of the four. The given model is left alone; nothing is shared with it.

    All options of the layers are carried over but these: a regulariser of a weight is left out with a
    warning, since the KL divergence to the prior takes its place; a constraint, LoRA or quantisation is
    refused; `use_cudnn` and `implementation` say nothing of what a layer computes and are dropped.

    Args:
      model: a `keras.Sequential` or a `keras.Model(inputs, outputs)`, built. How it was compiled is ignored.
      training_rows: of `BayesianModel`.
      prior: "zero" for the library's default, a scale mixture around 0; "empirical" for normal distributions
        of scale 1 centred on the trained weights, as MOPED has them (Krishnan et al., 2020); or any `Prior`.
        `CentredNormalPrior(scale)` is "empirical" with another scale.
      initial_scale: sigma, for all weights; or (low, high): rho is drawn uniformly between the values that
        belong to both ends.
      relative_scale: sigma in units of |w|, but at least 1e-4, in place of `initial_scale`; 0.1 where neither
        is given.
      likelihood: of `BayesianModel`. "categorical" and "bernoulli" take logits: of a model that ends in
        probabilities it is a Keras loss such as `keras.losses.sparse_categorical_crossentropy`.
      kl_weight: of `BayesianModel`.
      seed: of the draws in training, and of an `initial_scale` that is a range.
      posterior: the variational family; None for `MeanFieldNormal`. It must have members with the sigmas that
        are asked for: a `KTiedNormal` has them where `initial_scale` is one number.
      **kwargs: of `BayesianModel`, as `kl_warmup_steps`, `sharpening` and `name`.

    Raises:
      InputError: for a model that cannot be converted: one that is not built, that is subclassed, that has
        nothing to convert, whose layers have options without a variational counterpart, or that ends in
        probabilities where the likelihood takes logits.
      ValueError: for other bad arguments, and a variational family without the sigmas that are asked for.
    """
    if not isinstance(model, keras.Model) or isinstance(model, BayesianModel):
        raise ValueError(f"model must be a deterministic keras.Model. Received: model={model!r}")
    prior, scales = _prior(prior), _scales(initial_scale, relative_scale)
    family = {} if posterior is None else {"posterior": families.get(posterior)}
    generator = np.random.default_rng(seed)
    converted = []

    def replace(layer: Layer) -> Layer | None:
        if type(layer) not in _VARIATIONAL or not layer.trainable:
            return None
        _check_weights(layer)
        if not any(variable.trainable for variable in _weights(layer).values()):
            return None
        converted.append(layer)
        return _variational(layer, prior=prior, **family)

    def fill(source: Layer, target: Layer) -> None:
        values = _weights(source)
        for name, weight in _weights(target).items():
            mean = np.asarray(keras.ops.convert_to_numpy(values[name]), np.float32)
            if not np.isfinite(mean).all():
                raise InputError(f"layer {source.name!r} cannot be converted: its {name} is not finite")
            weight.assign(mean, scales(mean, generator) if weight.is_variational else None)

    network = cloning.copy_network(model, replace, fill)
    if not converted:
        raise InputError(
            f"model {model.name!r} has nothing to convert: no Embedding, LSTM, GRU or Dense layer whose "
            "weights are trainable"
        )
    _check_outputs(network, likelihood)
    bayesian = BayesianModel(
        network, training_rows, likelihood=likelihood, kl_weight=kl_weight, seed=seed, **kwargs
    )
    bayesian.build()
    return bayesian


def to_deterministic(model: keras.Model) -> keras.Model:
    """A network of Keras's own layers that computes what the posterior mean does.

    It is for a program that has Keras and nothing of this library. Variational layers become Keras's, holding
    the means (0 where weights are pruned), and this library's `Dropout` becomes `keras.layers.Dropout`. Other
    layers stay as they are. Nothing is shared with the given model.

    Args:
      model: a `BayesianModel`, or a network: a `keras.Sequential` or a `keras.Model(inputs, outputs)`, built.

    Raises:
      InputError: for a model that is not built or subclassed, or a layer of this library that Keras has no
        counterpart of.
      ValueError: if it is no Keras model.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a BayesianModel or another keras.Model. Received: model={model!r}")
    network = model.network if isinstance(model, BayesianModel) else model
    return cloning.copy_network(network, _plain, _fill_plain)


# Layers.


def _check_weights(layer: Layer) -> None:
    """Refuses weights that a variational layer could not have.

    Raises:
      InputError: if they do not exist yet, are not simply kernels and biases, or are trained in part.
    """
    if not layer.built:
        raise InputError(f"layer {layer.name!r} has no weights yet: build the model, or call it on data")
    for option in ("quantization_mode", "lora_rank"):
        if getattr(layer, option, None):
            raise InputError(_refusal(layer, option, getattr(layer, option)))
    for option in ("activation", "recurrent_activation"):
        if getattr(getattr(layer, option, None), "weights", None):
            raise InputError(_refusal(layer, f"{option} with weights", getattr(layer, option)))
    if len({variable.trainable for variable in _weights(layer).values()}) == 2:
        raise InputError(
            f"layer {layer.name!r} cannot be converted: some of its weights are trainable and some are not. "
            "Accepted: all or none"
        )


def _variational(layer: Layer, **distributions: Prior | VariationalFamily) -> Layer:
    """The variational layer, not built, with the options of one of Keras's."""
    kind = _VARIATIONAL[type(layer)]
    config = cloning.config_of(layer)
    accepted = _options(kind)
    for option in sorted(config.keys() - accepted):
        value = config.pop(option)
        if value is None:
            continue
        if not option.endswith("_regularizer"):
            raise InputError(_refusal(layer, option, getattr(layer, option, value)))
        warnings.warn(
            f"layer {layer.name!r}: its {option} is left out, since the KL divergence to the prior takes its "
            "place",
            stacklevel=2,
        )
    return kind(**config, **distributions)


def _refusal(layer: Layer, option: str, value: Any) -> str:
    return (
        f"layer {layer.name!r} cannot be converted: a variational {type(layer).__name__} has no {option}, "
        f"which is {value!r}"
    )


def _plain(layer: Layer) -> Layer | None:
    """Keras's layer, not built, with the options of one of ours; None to leave it as it is."""
    kind = _PLAIN.get(type(layer))
    if kind is None:
        ours = (VariationalLayer, Dropout)
        for part in keras_internals.layers_within(layer):
            if isinstance(part, ours):
                raise InputError(
                    f"layer {layer.name!r} has no counterpart in Keras: it is or holds a "
                    f"{type(part).__name__}. Accepted: {', '.join(sorted(k.__name__ for k in _PLAIN))}, by "
                    "themselves, in Bidirectional and in TimeDistributed"
                )
        return None
    if getattr(layer, "attend_bias", False):
        raise InputError(
            f"layer {layer.name!r} has no counterpart in Keras: it is a VariationalEmbedding with "
            "attend_bias=True"
        )
    config = cloning.config_of(layer)
    accepted = _options(kind)
    return kind(**{option: value for option, value in config.items() if option in accepted})


def _fill_plain(source: Layer, target: Layer) -> None:
    variables = _weights(target)
    for name, weight in _weights(source).items():
        variables[name].assign(keras.ops.cast(weight.mean(), variables[name].dtype))
        if not weight.mean_is_trainable:
            variables[name].trainable = False


def _options(kind: type[Layer]) -> set[str]:
    """What its constructor takes, with `**kwargs` of its base classes."""
    return {*inspect.signature(kind.__init__).parameters, *_COMMON} - {"self", "kwargs"}


def _weights(layer: Layer) -> dict[str, Any]:
    """The variables of a layer of Keras's, or the `VariationalWeight`s of one of ours, by name."""
    holder = getattr(layer, "cell", layer)
    found = {name: getattr(holder, name, None) for name in _WEIGHTS}
    return {name: weight for name, weight in found.items() if weight is not None}


# Arguments.


def _prior(prior: str | Prior) -> Prior:
    named = {"zero": lambda: priors.get(None), "empirical": CentredNormalPrior}
    if isinstance(prior, str) and prior in named:
        return named[prior]()
    if isinstance(prior, Prior):
        return prior
    raise ValueError(f"prior must be 'zero', 'empirical' or a Prior. Received: prior={prior!r}")


def _scales(initial: float | Sequence[float] | None, relative: float | None) -> Scales:
    """A function from the means, and a generator, to the sigmas."""
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
    bounds = rho_from_scale(np.array([low, high]))
    return lambda mean, generator: np.asarray(scale_from_rho(generator.uniform(*bounds, mean.shape)))


def _check_outputs(network: keras.Model, likelihood: str | NegativeLogLikelihood) -> None:
    """Refuses to read probabilities as logits."""
    if likelihood not in ("categorical", "bernoulli"):
        return
    for output in network.outputs:
        operation = keras_internals.operation_of(output)
        while cloning.is_network(operation) and len(operation.outputs) == 1:
            operation = keras_internals.operation_of(operation.outputs[0])
        layer = operation.layer if isinstance(operation, keras.layers.TimeDistributed) else operation
        activation = getattr(layer, "activation", None)
        name = getattr(activation, "__name__", type(layer).__name__).lower()
        if name in ("softmax", "sigmoid"):
            raise InputError(
                f"model {network.name!r} ends in probabilities (the {name} of {operation.name!r}), but "
                f"likelihood={likelihood!r} takes logits. Accepted: a likelihood that takes probabilities, "
                "such as keras.losses.sparse_categorical_crossentropy or keras.losses.binary_crossentropy, "
                "or a model that ends in logits"
            )
