"""The presets of the forecasters: what differs from the defaults of `zoo.forecasting.configuration`.

The networks are those of Salinas et al., "DeepAR" (2020), in size and in what they see. All else is of our
choice. The prior is normal, and the posterior is tempered: values are few, and so precise that weights have
to be. Tourism is learnt up to test, as competitors could. Epochs and the KL's weight are those that were best
with validation held out, of 24 and 48 epochs for every method, and of weights from 0.01 to 1.
"""

from __future__ import annotations

from typing import Any

from zoo.configuration.methods import BAYESIAN_METHODS, LABELS, SHARPENED_METHODS
from zoo.data.datasets import SERIES_SETS
from zoo.forecasting.configuration import METHODS

_PRIOR = {"family": "normal", "scale": 0.3}
_SIGMA0 = 0.002  # Of sharpening: the curvature of precise values is large, and 0.02 steps over it.
_DROPOUT = 0.1
_SAMPLES = 20

_SCHEDULE = {"epochs": 24, "hold_epochs": 12, "decay": 0.75, "learning_rate": 0.003}
_LONGER = {"epochs": 48, "hold_epochs": 24, "decay": 0.87, "learning_rate": 0.003}
_KL_WEIGHT = 0.1
# The range of the scales that the posterior begins with: of a model of values that differ little, and of one
# of values that differ by orders of magnitude, whose location has to be precise.
_WIDE, _NARROW = (0.03, 0.1), (0.01, 0.03)

_KINDS: dict[str, dict[str, Any]] = {
    "demo_forecast": {
        "data": {
            "name": "builtin_series",
            "frequency": "monthly",
            "season": 12,
            "horizon": 12,
            "covariates": "promotion",
            "categories": "kind",
        },
        "model": {
            "head": "normal",
            "scaling": "location_scale",
            "context": 24,
            "units": 32,
            "layers": 1,
            "category_units": 4,
        },
        "scales": _WIDE,
        "train": {"epochs": 40, "hold_epochs": 20, "decay": 0.9, "learning_rate": 0.005},
        "jit_compile": "off",  # It would take longer than it saves.
    },
    "tourism_monthly": {
        "data": {"name": "tourism_monthly", "season": 12, "horizon": 24, "hold_out_valid": False},
        "model": {"context": 36},
        "scales": _NARROW,
        "train": _LONGER,
    },
    "tourism_quarterly": {
        "data": {"name": "tourism_quarterly", "season": 4, "horizon": 8, "hold_out_valid": False},
        "model": {"context": 16},
        "scales": _NARROW,
        "train": _LONGER,
    },
    "electricity": {
        "data": {
            "name": "electricity",
            "frequency": "half_hourly",
            "season": 48,
            "horizon": 48,
            "origins": 28,
            "covariates": "temperature,holiday",
        },
        "model": {"context": 48, "lags": (1, 2, 3, 47, 48, 49, 96, 336)},
        "scales": _NARROW,
        "train": _SCHEDULE,
    },
}


def _preset(name: str, kind: str, method: str) -> dict[str, Any]:
    how = _KINDS[kind]
    is_bayesian = method in BAYESIAN_METHODS
    posterior = {"recurrent_scale_range": how["scales"], "other_scale_range": how["scales"]}
    return {
        "task": "forecasting",
        "preset": name,
        "description": f"{LABELS[method]}, on {SERIES_SETS[how['data']['name']].about}",
        "method": method,
        "data": how["data"],
        "model": {**how["model"], **({"dropout": _DROPOUT} if method == "dropout" else {})},
        "train": {
            "batch": 32,
            "optimizer": "adam",
            "clip_norm": 10.0,
            **how["train"],
            **({"kl_weight": _KL_WEIGHT} if is_bayesian else {}),
        },
        **({"jit_compile": how["jit_compile"]} if "jit_compile" in how else {}),
        **({"prior": _PRIOR, "posterior": posterior} if is_bayesian else {}),
        **({"sharpening": {"sigma0": _SIGMA0}} if method in SHARPENED_METHODS else {}),
        **({"evaluate": {"num_samples": _SAMPLES}} if method != "deterministic" else {}),
    }


PRESETS: dict[str, dict[str, Any]] = {
    f"{kind}_{method}": _preset(f"{kind}_{method}", kind, method) for kind in _KINDS for method in METHODS
}
