"""What the fields of a configuration accept, task by task."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tfp_bayesrnn.errors import InputError
from zoo import methods
from zoo.captioning import presets as captioning
from zoo.language_model import presets as language_model

GRANULARITIES = ("row", "weight", "tensor")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
JIT_COMPILE = ("auto", "on", "off")
TAILS = ("drop", "pad")
OPTIMIZERS = ("sgd", "adam")


class Check(NamedTuple):
    """What one field accepts.

    Attributes:
      accepts: whether it accepts a value of any type.
      accepted: what it accepts, in words.
    """

    accepts: Callable[[Any], bool]
    accepted: str


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_scale_range(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(_is_number(v) for v in value):
        return False
    return 0 < value[0] <= value[1]


def _choice(*accepted: str) -> Check:
    return Check(lambda value: value in accepted, f"one of {', '.join(accepted)}")


def _at_least(least: int) -> Check:
    return Check(lambda value: _is_integer(value) and value >= least, f"a whole number of at least {least}")


_TEXT = Check(lambda value: isinstance(value, str), "a text")
_NUMBER = Check(_is_number, "a finite number")
_FLAG = Check(lambda value: isinstance(value, bool), "true or false")
_COUNT = _at_least(1)
_COUNT_OR_ZERO = _at_least(0)
_SEED = Check(
    lambda value: _is_integer(value) and 0 <= value < 2**32, "a whole number of at least 0 and below 2**32"
)
_RATE = Check(lambda value: _is_number(value) and 0 <= value < 1, "a number in [0, 1)")
_FRACTION = Check(lambda value: _is_number(value) and 0 < value < 1, "a number strictly between 0 and 1")
_DECAY = Check(lambda value: _is_number(value) and 0 < value <= 1, "a number above 0 and at most 1")
_POSITIVE = Check(lambda value: _is_number(value) and value > 0, "a number above 0")
_NOT_NEGATIVE = Check(lambda value: _is_number(value) and value >= 0, "a number of at least 0")
_SCALE_RANGE = Check(_is_scale_range, "two numbers (low, high) with 0 < low <= high")

TASK = _choice("language_model", "captioning")

_NAMES = {"task": TASK, "preset": _TEXT, "description": _TEXT}

_MODEL = {
    "model.embedding_units": _COUNT,
    "model.units": _COUNT,
    "model.layers": _COUNT,
    "model.tied": _FLAG,
    "model.init_range": _POSITIVE,
    "model.dropout": _RATE,
    "model.word_dropout": _RATE,
    "model.input_dropout": _RATE,
    "model.recurrent_dropout": _RATE,
    "model.output_dropout": _RATE,
}

_DISTRIBUTIONS = {
    "prior.pi": _FRACTION,
    "prior.log_sigma1": _NUMBER,
    "prior.log_sigma2": _NUMBER,
    "prior.granularity": _choice(*GRANULARITIES),
    "posterior.recurrent_scale_range": _SCALE_RANGE,
    "posterior.other_scale_range": _SCALE_RANGE,
    "sharpening.sigma0": _NOT_NEGATIVE,
    "sharpening.learning_rate": _NOT_NEGATIVE,
    "sharpening.second_order": _FLAG,
}

_TRAIN = {
    "train.batch": _COUNT,
    "train.epochs": _COUNT,
    "train.learning_rate": _POSITIVE,
    "train.hold_epochs": _COUNT_OR_ZERO,
    "train.decay": _DECAY,
    "train.clip_norm": _POSITIVE,
    "train.kl_weight": _NOT_NEGATIVE,
    "train.kl_warmup_epochs": _NOT_NEGATIVE,
    "train.weight_decay": _NOT_NEGATIVE,
    "train.patience": _COUNT_OR_ZERO,
    "train.max_nll": _NOT_NEGATIVE,
    "train.step_backs": _COUNT_OR_ZERO,
    "train.step_back_factor": _FRACTION,
    "train.checkpoint_seconds": _NOT_NEGATIVE,
}

_COMPUTATION = {
    "seed": _SEED,
    "compute_dtype": _choice(*COMPUTE_DTYPES),
    "jit_compile": _choice(*JIT_COMPILE),
}

CHECKS: dict[str, dict[str, Check]] = {
    "language_model": {
        **_NAMES,
        "method": _choice(*methods.METHODS),
        "data.name": _choice(*language_model.DATA_NAMES),
        **_MODEL,
        **_DISTRIBUTIONS,
        **_TRAIN,
        "train.unroll": _COUNT,
        "train.tail": _choice(*TAILS),
        "evaluate.rows": _COUNT,
        "evaluate.unroll": _COUNT,
        "evaluate.final_rows": _COUNT,
        "evaluate.final_unroll": _COUNT,
        "evaluate.num_samples": _COUNT_OR_ZERO,
        "evaluate.dynamic_learning_rate": _NOT_NEGATIVE,
        **_COMPUTATION,
    },
    "captioning": {
        **_NAMES,
        "method": _choice(*captioning.METHODS),
        "data.name": _choice(*captioning.DATA_NAMES),
        "data.min_count": _COUNT_OR_ZERO,
        "data.max_words": _COUNT,
        "data.captions_per_image": _COUNT,
        "data.shift": _FLAG,
        "data.flip": _FLAG,
        "encoder.name": _TEXT,
        "encoder.image_size": _at_least(32),
        "encoder.width": _COUNT,
        "encoder.weights": _TEXT,
        "encoder.trainable": _FLAG,
        "encoder.cache_dir": _TEXT,
        **_MODEL,
        "model.unit_forget_bias": _FLAG,
        "model.feature_dropout": _RATE,
        "model.image_as": _choice(*captioning.IMAGE_AS),
        **_DISTRIBUTIONS,
        **_TRAIN,
        "train.optimizer": _choice(*OPTIMIZERS),
        "train.start_from": _TEXT,
        "evaluate.batch": _COUNT,
        "evaluate.beam": _COUNT,
        "evaluate.length_penalty": _NOT_NEGATIVE,
        "evaluate.max_words": _COUNT,
        "evaluate.num_samples": _COUNT_OR_ZERO,
        "evaluate.meteor": _FLAG,
        **_COMPUTATION,
    },
}
"""Task -> field, by its dotted name -> what it accepts, in the order in which they are checked."""


def check_together(flat: Mapping[str, Any]) -> None:
    """Checks what no field can be checked for alone.

    Args:
      flat: dotted field name -> value, each accepted by the task's `CHECKS`.

    Raises:
      InputError: two fields do not go together; it names the first pair, and what is accepted.
    """
    if flat["method"] != "bbb_sharpened":
        for field, default in methods.SHARPENING.items():
            name = f"sharpening.{field}"
            if flat[name] != default:
                raise InputError(
                    f"{name}={flat[name]!r} has no effect with method={flat['method']!r}; accepted then: "
                    f"{default!r}, or a preset that ends in bbb_sharpened"
                )
    if flat["model.tied"] and flat["model.embedding_units"] != flat["model.units"]:
        raise InputError(
            f"model.tied=True needs model.embedding_units={flat['model.embedding_units']} to equal "
            f"model.units={flat['model.units']}"
        )
    if flat["task"] == "captioning":
        _check_encoder(flat)


def _check_encoder(flat: Mapping[str, Any]) -> None:
    name, weights, cache_dir = (flat[f"encoder.{field}"] for field in ("name", "weights", "cache_dir"))
    if name == captioning.COMPACT and weights:
        raise InputError(
            f"encoder.weights={weights!r} has no effect with encoder.name={name!r}; accepted then: '', or "
            "train.start_from=WORKDIR for the weights of another run"
        )
    if not (flat["encoder.trainable"] or weights or flat["train.start_from"]):
        trained = "" if name == captioning.COMPACT else "encoder.weights=imagenet or a file, "
        raise InputError(
            f"encoder.trainable=False would leave encoder.name={name!r} with random weights; accepted then: "
            f"{trained}train.start_from=WORKDIR, or encoder.trainable=True"
        )
    if not cache_dir:
        return
    # Kept vectors are of an encoder that stays as it is and of images as they are.
    for field, needed in (("encoder.trainable", False), ("data.shift", False), ("data.flip", False)):
        if flat[field] != needed:
            raise InputError(
                f"encoder.cache_dir={cache_dir!r} needs {field}={needed}; accepted with {field}="
                f"{flat[field]}: ''"
            )
