"""Presets: complete configurations under a name, as plain data.

A preset is one published (or, where none is published, chosen and so described) way to train one model. The
numbers come from:

- Zaremba, Sutskever, Vinyals, "Recurrent Neural Network Regularization" (2014), section 4.1: the
  non-regularised LSTM and the medium and large LSTMs with dropout.
- Gal, Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks" (2016),
  section 4.1 and the released code.
- Fortunato, Blundell, Vinyals, "Bayesian Recurrent Neural Networks" (2017), and its released example code.

Two conventions, for whoever reads a configuration:

- `train.hold_epochs` counts the epochs at the full learning rate; epoch `hold_epochs + n` runs at
  `learning_rate * decay ** n`. This is "after 6 epochs we decrease it" in Zaremba et al., and `max_epoch` of
  the TensorFlow scripts descended from their code. (The Lua scripts of Zaremba and of Gal test
  `epoch > max_epoch` after an epoch and so begin one epoch later than the texts say; the texts are followed.)
- `train.weight_decay` adds `weight_decay * weight` to a weight's gradient after clipping, as Gal's code does
  up to a factor of the learning rate (his decay does not shrink with it).
"""

from __future__ import annotations

import copy
from typing import Any

from ml_collections import ConfigDict

METHODS = ("deterministic", "dropout", "variational_dropout", "bbb", "bbb_sharpened")
BAYESIAN_METHODS = ("bbb", "bbb_sharpened")

# Of "bbb_sharpened"; the learning rate is that of the sharpening's own optimizer.
SHARPENING = {"sigma0": 0.02, "learning_rate": 0.001, "second_order": False}

# How training is watched over. None of it changes a run that goes well.
WATCH = {
    # Epochs without a better validation NLL after which training ends; 0: never.
    "patience": 0,
    # NLL of a step, as a multiple of uniform guessing's, at which training has exploded; 0: never.
    "max_nll": 5.0,
    # How often, in all, training that has diverged goes back to the last checkpoint, and by what its learning
    # rate is multiplied then. After that it ends.
    "step_backs": 0,
    "step_back_factor": 0.5,
    # The longest time between two checkpoints; there is one after every epoch.
    "checkpoint_seconds": 300.0,
}

_LABELS = {
    "deterministic": "LSTM, no regularisation",
    "dropout": "LSTM, dropout on non-recurrent connections",
    "variational_dropout": "LSTM, dropout masks tied over time",
    "bbb": "Bayes by Backprop",
    "bbb_sharpened": "Bayes by Backprop with posterior sharpening",
}

_SIZES = {
    "demo": {"units": 80, "layers": 2, "init_range": 0.1},
    "small": {"units": 200, "layers": 2, "init_range": 0.1},
    "medium": {"units": 650, "layers": 2, "init_range": 0.05},
    "large": {"units": 1500, "layers": 2, "init_range": 0.04},
}

# Zaremba's rates. 0.25 at 200 units is a choice of ours: half of medium's, as a third of the units leaves
# little to drop.
_DROPOUT_RATE = {"demo": 0.1, "small": 0.25, "medium": 0.5, "large": 0.65}

# Gal: (rate tied for words and recurrent connections, rate tied for inputs and output). Small: the 200-unit
# setting found in the released code, which was trained differently (states reset, constant learning rate).
_VARIATIONAL_RATES = {"demo": (0.1, 0.1), "small": (0.25, 0.25), "medium": (0.2, 0.35), "large": (0.3, 0.5)}
_VARIATIONAL_WEIGHT_DECAY = 1e-7

# A schedule: epochs, hold_epochs, decay, clip_norm, unroll.
_NOT_REGULARISED = {"epochs": 13, "hold_epochs": 4, "decay": 0.5, "clip_norm": 5.0, "unroll": 20}
_MEDIUM = {"epochs": 39, "hold_epochs": 6, "decay": 1 / 1.2, "clip_norm": 5.0, "unroll": 35}
_LARGE = {"epochs": 55, "hold_epochs": 14, "decay": 1 / 1.15, "clip_norm": 10.0, "unroll": 35}
_BBB = {"epochs": 70, "hold_epochs": 20, "decay": 0.9, "clip_norm": 5.0, "unroll": 35}
# Of our choice: two hundred units are done sooner, and two cores finish it in an hour or so.
_SMALL_DROPOUT = {"epochs": 20, "hold_epochs": 6, "decay": 0.8, "clip_norm": 5.0, "unroll": 35}
_SMALL_BBB = {"epochs": 20, "hold_epochs": 8, "decay": 0.8, "clip_norm": 5.0, "unroll": 35}
_DEMO = {"epochs": 16, "hold_epochs": 8, "decay": 0.75, "clip_norm": 5.0, "unroll": 20}

# Gal keeps Zaremba's schedule but holds the large model's rate for 10 epochs, not 14.
_SCHEDULES = {
    "deterministic": {"small": _NOT_REGULARISED, "medium": _NOT_REGULARISED, "large": _NOT_REGULARISED},
    "dropout": {"small": _SMALL_DROPOUT, "medium": _MEDIUM, "large": _LARGE},
    "variational_dropout": {
        "small": _SMALL_DROPOUT,
        "medium": _MEDIUM,
        "large": {**_LARGE, "hold_epochs": 10},
    },
    **{method: {"small": _SMALL_BBB, "medium": _BBB, "large": _BBB} for method in BAYESIAN_METHODS},
}

# What is not in the papers, said in the description.
_REMARKS = {
    ("small", "dropout"): "rate and schedule of our choice",
    ("small", "variational_dropout"): "schedule of our choice, rates of the authors' 200-unit code",
    ("medium", "deterministic"): "the small model's schedule",
    ("large", "deterministic"): "the small model's schedule",
    **{("small", method): "schedule of our choice" for method in BAYESIAN_METHODS},
    **{("large", method): "medium's schedule" for method in BAYESIAN_METHODS},
}

_CORPORA = {
    "builtin": "the built-in corpus",
    "ptb": "Penn Treebank",
    "text": "your own text files",
    "wikitext2": "WikiText-2",
}
DATA_NAMES = tuple(_CORPORA)


def _model(size: str, method: str) -> dict[str, Any]:
    words_recurrent, inputs_output = (
        _VARIATIONAL_RATES[size] if method == "variational_dropout" else (0.0, 0.0)
    )
    return {
        "embedding_units": _SIZES[size]["units"],
        **_SIZES[size],
        "tied": False,
        "dropout": _DROPOUT_RATE[size] if method == "dropout" else 0.0,
        "word_dropout": words_recurrent,
        "input_dropout": inputs_output,
        "recurrent_dropout": words_recurrent,
        "output_dropout": inputs_output,
    }


def _train(size: str, method: str) -> dict[str, Any]:
    schedule = _DEMO if size == "demo" else _SCHEDULES[method][size]
    return {
        "batch": 20,
        "learning_rate": 1.0,
        **schedule,
        "kl_weight": 1.0,
        "kl_warmup_epochs": 0.0,
        "weight_decay": _VARIATIONAL_WEIGHT_DECAY if method == "variational_dropout" else 0.0,
        "tail": "drop",
        **WATCH,
    }


def _description(data: str, size: str, method: str) -> str:
    remark = _REMARKS.get((size, method))
    return f"{_LABELS[method]}, on {_CORPORA[data]}" + (f" ({remark})" if remark else "")


def _language_model(name: str, data: str, size: str, method: str) -> dict[str, Any]:
    return {
        "task": "language_model",
        "preset": name,
        "description": _description(data, size, method),
        "method": method,
        "data": {"name": data},
        "model": _model(size, method),
        "prior": {"pi": 0.25, "log_sigma1": -1.0, "log_sigma2": -7.0, "granularity": "row"},
        # In units of the prior's standard deviation; "recurrent" is the LSTM, "other" embedding and softmax.
        "posterior": {"recurrent_scale_range": (0.25, 0.5), "other_scale_range": (0.5, 1.0)},
        "sharpening": dict(SHARPENING),
        "train": _train(size, method),
        "evaluate": {
            "rows": 20,
            "unroll": 35,
            "final_rows": 1,
            "final_unroll": 100,
            # Samples of the model average; 0: posterior mean only. Gal's method is defined by its average.
            "num_samples": 10 if method == "variational_dropout" else 0,
            # Dynamic evaluation too, at this rate; 0: none. The paper's is 0.1, which suits 20 rows: the
            # rate of one row is smaller.
            "dynamic_learning_rate": 0.0,
        },
        "seed": 0,
        "compute_dtype": "float32",
        "jit_compile": "auto",
    }


def _all() -> dict[str, dict[str, Any]]:
    entries = [(f"demo_{method}", "builtin", "demo", method) for method in METHODS]
    entries += [
        (f"ptb_{size}_{method}", "ptb", size, method)
        for size in ("small", "medium", "large")
        for method in METHODS
    ]
    entries += [
        (f"text_{size}_{method}", "text", size, method)
        for size in ("small", "medium")
        for method in ("dropout", *BAYESIAN_METHODS)
    ]
    entries += [(f"wikitext2_medium_{method}", "wikitext2", "medium", method) for method in BAYESIAN_METHODS]
    return {name: _language_model(name, data, size, method) for name, data, size, method in entries}


PRESETS: dict[str, dict[str, Any]] = _all()


def preset_names() -> tuple[str, ...]:
    """The names of all presets, in the order they are listed."""
    return tuple(PRESETS)


def get_preset(name: str) -> ConfigDict:
    """The preset `name` as a locked `ConfigDict` of its own: changing it changes no other.

    Raises:
      InputError: no preset has that name; the near matches are listed.
    """
    if name not in PRESETS:
        # Not at the top: the library imports TensorFlow, which listing presets can do without.
        from tfp_bayesrnn.errors import unknown_name

        raise unknown_name("preset", name, PRESETS)
    return ConfigDict(copy.deepcopy(PRESETS[name])).lock()


def table() -> str:
    """All presets as a table of plain text: name, task, size, method and description."""
    rows = [("preset", "task", "size", "method", "description")]
    for name, preset in PRESETS.items():
        model = preset["model"]
        size = f"{model['layers']}x{model['units']}"
        rows.append((name, preset["task"], size, preset["method"], preset["description"]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[4]]).rstrip())
    return "\n".join(lines)
