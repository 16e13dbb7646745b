"""What `BayesianModel` and its `compile` accept, told before anything is made of it."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from tfp_bayesrnn import keras_internals
from tfp_bayesrnn.posterior.sharpening import PosteriorSharpening


def check_model(network: Any, training_rows: Any, kl_warmup_steps: Any, sharpening: Any, seed: Any) -> None:
    """Refuses arguments of the constructor that no model can be made of.

    Raises:
      ValueError: if one is of another kind than the constructor says, or out of range.
    """
    is_another = hasattr(network, "likelihood") and hasattr(network, "network")
    if not isinstance(network, keras.Model) or is_another:
        raise ValueError(
            "network must be a keras.Model, such as keras.Sequential([...]) or keras.Model(inputs, outputs), "
            f"and no BayesianModel. Received: network={network!r}"
        )
    if training_rows is not None and not (is_number(training_rows) and 0.0 < training_rows < math.inf):
        raise ValueError(
            "training_rows must be a positive number, or None for fit to count them. "
            f"Received: training_rows={training_rows!r}"
        )
    is_auto = isinstance(kl_warmup_steps, str) and kl_warmup_steps == "auto"
    if not is_auto and not (is_number(kl_warmup_steps) and 0 <= kl_warmup_steps < math.inf):
        raise ValueError(
            "kl_warmup_steps must be 'auto', or a number of steps that is not negative. "
            f"Received: kl_warmup_steps={kl_warmup_steps!r}"
        )
    if sharpening is not None and (not isinstance(sharpening, PosteriorSharpening) or sharpening.built):
        raise ValueError(
            "sharpening must be a PosteriorSharpening that no other model has: it holds variables of its "
            f"model. Received: sharpening={sharpening!r}"
        )
    if not is_whole(seed):
        raise ValueError(f"seed must be a whole number. Received: seed={seed!r}")


def check_compile(clip_norm: Any, jit_compile: Any, steps_per_execution: Any, **losses: Any) -> None:
    """Refuses arguments of `compile` that are wrong, and losses.

    Raises:
      ValueError: if a loss is given, or another argument is none of those that `compile` names.
    """
    for name, value in losses.items():
        if value is not None:
            raise ValueError(
                f"BayesianModel owns its loss, the free energy, and its reduction: leave `{name}` out "
                "and choose the likelihood with BayesianModel(..., likelihood=...); what comes after the "
                f"optimizer has to be named, as in clip_norm=5.0. Received: {name}={value!r}"
            )
    if clip_norm is not None and not (is_number(clip_norm) and 0.0 < clip_norm < math.inf):
        raise ValueError(f"clip_norm must be a positive number. Received: clip_norm={clip_norm!r}")
    if not isinstance(jit_compile, bool) and not (isinstance(jit_compile, str) and jit_compile == "auto"):
        raise ValueError(f"jit_compile must be 'auto', True or False. Received: jit_compile={jit_compile!r}")
    if not is_whole(steps_per_execution) or steps_per_execution < 1:
        raise ValueError(
            "steps_per_execution must be a positive integer. "
            f"Received: steps_per_execution={steps_per_execution!r}"
        )


def check_owns_objective(model: Any) -> None:
    """Refuses to train a `BayesianModel` whose objective is not whole, or not its own.

    Raises:
      ValueError: if a layer would add its KL by itself, or the number of training rows is not known.
    """
    for layer in keras_internals.layers_within(model.network):
        if getattr(layer, "kl_weight", None) is not None:
            raise ValueError(
                "Inside a BayesianModel the model adds the KL of every weight: leave kl_weight out of "
                f"its layers. Received: layer {layer.name!r} with kl_weight={float(layer.kl_weight):g}"
            )
    if not model.counted_rows.is_known and model.posterior.is_variational:
        raise ValueError(
            "training_rows is needed to share the KL out over the training data: batch * windows for a "
            "stream, else the number of training examples. fit counts the rows of arrays and of datasets "
            "whose cardinality is known; for other data, and outside of fit, give the number. "
            "Received: training_rows=None"
        )


def is_number(value: Any) -> bool:
    """Whether a value is one real number, and no boolean."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Whether a value is one whole number, and no boolean."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
