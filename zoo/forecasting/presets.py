"""The presets of the forecasters: what differs from the defaults of `zoo.forecasting.configuration`.

The networks are those of Salinas et al., "DeepAR" (2020), in size and in what they see. Prior, posterior and
schedules are of our choice: weights of a forecaster begin with scales of a tenth to a third of the prior's,
which is normal, so that its few values are heard.
"""

from __future__ import annotations

import math
from typing import Any

from zoo.configuration.methods import BAYESIAN_METHODS, LABELS
from zoo.data.datasets import SERIES_SETS
from zoo.forecasting.configuration import METHODS

_PRIOR = {"log_sigma1": math.log(0.3), "log_sigma2": math.log(0.3)}
_POSTERIOR = {"recurrent_scale_range": (0.1, 0.3), "other_scale_range": (0.1, 0.3)}
_DROPOUT = 0.1
_SAMPLES = 20

_DATA: dict[str, dict[str, Any]] = {
    "demo_forecast": {
        "data": {
            "name": "builtin_series",
            "frequency": "monthly",
            "season": 12,
            "horizon": 12,
            "covariates": "promotion",
            "categories": "kind",
        },
        "model": {"head": "normal", "context": 24, "units": 32, "layers": 1, "category_units": 4},
        "train": {"epochs": 40, "hold_epochs": 20, "decay": 0.9, "learning_rate": 0.005},
    },
}


def _preset(name: str, kind: str, method: str) -> dict[str, Any]:
    how = _DATA[kind]
    is_bayesian = method in BAYESIAN_METHODS
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
            **({"kl_warmup_epochs": how["train"]["epochs"] / 4} if is_bayesian else {}),
        },
        **({"prior": _PRIOR, "posterior": _POSTERIOR} if is_bayesian else {}),
        **({"evaluate": {"num_samples": _SAMPLES}} if method != "deterministic" else {}),
    }


PRESETS: dict[str, dict[str, Any]] = {
    f"{kind}_{method}": _preset(f"{kind}_{method}", kind, method) for kind in _DATA for method in METHODS
}
