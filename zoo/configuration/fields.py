"""What the fields of a configuration accept, task by task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tfp_bayesrnn.errors import InputError, quoted
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.captioning import presets as captioning
from zoo.configuration import limits, methods
from zoo.language_model import presets as language_model

GRANULARITIES = ("row", "weight", "tensor")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
JIT_COMPILE = ("auto", "on", "off")
TAILS = ("drop", "pad")
OPTIMIZERS = ("sgd", "adam")


_LARGEST = 3.4e38  # Of float32, in which numbers are computed with.


class Check(NamedTuple):
    """What one field accepts.

    Attributes:
      accepts: whether it accepts a value of any type.
      accepted: what it accepts, in words.
    """

    accepts: Callable[[Any], bool]
    accepted: str


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_scale_range(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(_is_number(v) for v in value):
        return False
    return 0 < value[0] <= value[1]


def _is_path(value: Any) -> bool:
    try:
        return isinstance(value, str) and (not value or bool(local_path(value)))
    except InputError:
        return False


def _choice(*accepted: str) -> Check:
    return Check(lambda value: value in accepted, f"one of {', '.join(accepted)}")


def _whole(least: int, most: int) -> Check:
    return Check(
        lambda value: _is_integer(value) and least <= value <= most,
        f"a whole number of at least {least} and at most {most}",
    )


def _not_negative(most: float) -> Check:
    accepted = f"a number of at least 0 and at most {most:g}"
    return Check(lambda value: _is_number(value) and 0 <= value <= most, accepted)


_TEXT = Check(lambda value: isinstance(value, str), "a text")
_PATH = Check(_is_path, "the path of a file or folder of this machine, in UTF-8, or '' for none")
_NUMBER = Check(_is_number, f"a finite number, its size at most {_LARGEST:g}")
_FLAG = Check(lambda value: isinstance(value, bool), "true or false")
_UNITS = _whole(1, limits.UNITS)
_ROWS = _whole(1, limits.ROWS)
_WINDOW = _whole(1, limits.WINDOW)
_WORDS = _whole(1, limits.WORDS)
_COUNT_OR_ZERO = _whole(0, limits.COUNT)
_RATE = Check(lambda value: _is_number(value) and 0 <= value < 1, "a number in [0, 1)")
_FRACTION = Check(lambda value: _is_number(value) and 0 < value < 1, "a number strictly between 0 and 1")
_DECAY = Check(lambda value: _is_number(value) and 0 < value <= 1, "a number above 0 and at most 1")
_POSITIVE = Check(lambda value: _is_number(value) and value > 0, f"a number above 0, at most {_LARGEST:g}")
_NOT_NEGATIVE = _not_negative(_LARGEST)
_EPOCHS_OR_NONE = _not_negative(limits.EPOCHS)
_SCALE_RANGE = Check(_is_scale_range, "two numbers (low, high) with 0 < low <= high")

SEED = Check(
    lambda value: _is_integer(value) and 0 <= value < 2**32, "a whole number of at least 0 and below 2**32"
)
SAMPLES = _whole(0, limits.SAMPLES)

TASK = _choice("language_model", "captioning")

_NAMES = {"task": TASK, "preset": _TEXT, "description": _TEXT}

_MODEL = {
    "model.embedding_units": _UNITS,
    "model.units": _UNITS,
    "model.layers": _whole(1, limits.LAYERS),
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
    "train.batch": _ROWS,
    "train.epochs": _whole(1, limits.EPOCHS),
    "train.learning_rate": _POSITIVE,
    "train.hold_epochs": _COUNT_OR_ZERO,
    "train.decay": _DECAY,
    "train.clip_norm": _POSITIVE,
    "train.kl_weight": _NOT_NEGATIVE,
    "train.kl_warmup_epochs": _EPOCHS_OR_NONE,
    "train.weight_decay": _NOT_NEGATIVE,
    "train.patience": _COUNT_OR_ZERO,
    "train.max_nll": _NOT_NEGATIVE,
    "train.step_backs": _COUNT_OR_ZERO,
    "train.step_back_factor": _FRACTION,
    "train.checkpoint_seconds": _NOT_NEGATIVE,
}

_COMPUTATION = {
    "seed": SEED,
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
        "train.unroll": _WINDOW,
        "train.tail": _choice(*TAILS),
        "evaluate.rows": _ROWS,
        "evaluate.unroll": _WINDOW,
        "evaluate.final_rows": _ROWS,
        "evaluate.final_unroll": _WINDOW,
        "evaluate.num_samples": SAMPLES,
        "evaluate.dynamic_learning_rate": _NOT_NEGATIVE,
        **_COMPUTATION,
    },
    "captioning": {
        **_NAMES,
        "method": _choice(*captioning.METHODS),
        "data.name": _choice(*captioning.DATA_NAMES),
        "data.min_count": _COUNT_OR_ZERO,
        "data.max_words": _WORDS,
        "data.captions_per_image": _whole(1, limits.CAPTIONS),
        "data.shift": _FLAG,
        "data.flip": _FLAG,
        "encoder.name": _TEXT,
        "encoder.image_size": _whole(32, limits.IMAGE_SIZE),
        "encoder.width": _whole(1, limits.ENCODER_WIDTH),
        "encoder.weights": _PATH,
        "encoder.trainable": _FLAG,
        "encoder.cache_dir": _PATH,
        **_MODEL,
        "model.unit_forget_bias": _FLAG,
        "model.feature_dropout": _RATE,
        "model.image_as": _choice(*captioning.IMAGE_AS),
        **_DISTRIBUTIONS,
        **_TRAIN,
        "train.optimizer": _choice(*OPTIMIZERS),
        "train.start_from": _PATH,
        "evaluate.batch": _ROWS,
        "evaluate.beam": _whole(1, limits.BEAMS),
        "evaluate.length_penalty": _NOT_NEGATIVE,
        "evaluate.max_words": _WORDS,
        "evaluate.num_samples": _whole(0, limits.DRAWS_IN_A_GRAPH),
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
    _check_sizes(flat)
    if flat["task"] == "captioning":
        _check_encoder(flat)


def _check_sizes(flat: Mapping[str, Any]) -> None:
    """Sizes that are accepted each and not together."""
    for rows, window in (
        ("train.batch", "train.unroll"),
        ("evaluate.rows", "evaluate.unroll"),
        ("evaluate.final_rows", "evaluate.final_unroll"),
    ):
        if window in flat and flat[rows] * flat[window] > limits.AT_ONCE:
            raise InputError(
                f"{rows}={flat[rows]} and {window}={flat[window]} are not accepted together: their product "
                f"must be at most {limits.AT_ONCE}, the words of a window"
            )
    units, inputs, layers = (flat[f"model.{size}"] for size in ("units", "embedding_units", "layers"))
    if 4 * units * (inputs + units + (layers - 1) * 2 * units) > limits.RECURRENT_WEIGHTS:
        raise InputError(
            f"model.units={units}, model.embedding_units={inputs} and model.layers={layers} are not accepted "
            f"together: the recurrent layers must have at most {limits.RECURRENT_WEIGHTS} weights"
        )


def _check_encoder(flat: Mapping[str, Any]) -> None:
    name, weights, cache_dir = (flat[f"encoder.{field}"] for field in ("name", "weights", "cache_dir"))
    if name == captioning.COMPACT and weights:
        raise InputError(
            f"encoder.weights={quoted(weights)} has no effect with encoder.name={name!r}; accepted then: '', "
            "or train.start_from=WORKDIR for the weights of another run"
        )
    if not (flat["encoder.trainable"] or weights or flat["train.start_from"]):
        trained = "" if name == captioning.COMPACT else "encoder.weights=imagenet or a file, "
        raise InputError(
            f"encoder.trainable=False would leave encoder.name={quoted(name)} with random weights; "
            f"accepted then: {trained}train.start_from=WORKDIR, or encoder.trainable=True"
        )
    if not cache_dir:
        return
    # Kept vectors are of an encoder that stays as it is and of images as they are.
    for field, needed in (("encoder.trainable", False), ("data.shift", False), ("data.flip", False)):
        if flat[field] != needed:
            raise InputError(
                f"encoder.cache_dir={quoted(cache_dir)} needs {field}={needed}; accepted with {field}="
                f"{flat[field]}: ''"
            )
