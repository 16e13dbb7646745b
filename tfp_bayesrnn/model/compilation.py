"""Whether XLA compiles the step of a model."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

from tfp_bayesrnn import keras_internals

_OVERHEAD = 100_000
"""What a step costs whatever its size, and XLA saves of it, in numbers of weights."""

_COMPILATION = 150_000_000
"""What XLA's compilation costs: steps times weights."""


def uses_xla(model: Any) -> bool:
    """Whether XLA compiles the free energy and its gradients of a `BayesianModel`.

    Raises:
      ValueError: if `compile` was told so, and a layer or eager steps do not allow it.
    """
    request, layers = model.jit_compile_request, keras_internals.layers_within(model.network)
    unable = [layer for layer in layers if not layer.supports_jit]
    if request == "auto":
        return not model.run_eagerly and not unable and not is_faster_without(model) and pays(model)
    if request and (model.run_eagerly or unable):
        why = f"layer {unable[0].name!r} does not support it" if unable else "run_eagerly=True excludes it"
        raise ValueError(f"jit_compile={request}, but {why}. Accepted then: jit_compile='auto' or False")
    return bool(request)


def pays(model: Any) -> bool:
    """Whether XLA saves more time in the steps of `fit` than it takes to compile one.

    It depends on nothing that is measured, so that the same call has the same numerical result. On two CPU
    cores XLA took 4 s for an LSTM of 32 units and 10 s where a last minibatch is smaller, and saves 3 ms of a
    step; of a network of 5 million weights it saves some 150 ms. Where steps are not known beforehand, as in
    `train_on_batch`, it compiles.
    """
    watch = model.fit_watch
    if watch is None or watch.steps is None:
        return model.is_step_compiled is not False
    weights = sum(math.prod(variable.shape) for variable in model.network.variables)
    compilations = 3 if watch.epoch.is_uneven else 1
    return watch.steps * (_OVERHEAD + weights) >= compilations * _COMPILATION


def is_faster_without(model: Any) -> bool:
    """Whether it makes bfloat16 products on a CPU, whose own instructions for them XLA does not use."""
    if model.posterior.is_variational or tf.config.list_physical_devices("GPU"):
        return False
    return any(layer.compute_dtype == "bfloat16" for layer in keras_internals.layers_within(model.network))
