"""The methods of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METHODS = ("deterministic", "dropout", "variational_dropout", "bbb", "bbb_sharpened")
BAYESIAN_METHODS = ("bbb", "bbb_sharpened")
SHARPENED_METHODS = ("bbb_sharpened",)

LABELS = {
    "deterministic": "LSTM, no regularisation",
    "dropout": "LSTM, dropout on non-recurrent connections",
    "variational_dropout": "LSTM, dropout masks tied over time",
    "bbb": "Bayes by Backprop",
    "bbb_sharpened": "Bayes by Backprop with posterior sharpening",
}


def k_tied(presets: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns one more preset for each of Bayes by Backprop, with k-tied scales (Swiatkowski et al., 2020).

    The KL warms up over the whole training: SGD moves tied scales fast, and would bring them to the prior's
    before the likelihood has been learned (docs/families.md).
    """
    return {
        f"{name}_ktied": {
            **preset,
            "preset": f"{name}_ktied",
            "description": preset["description"].replace(LABELS["bbb"], f"{LABELS['bbb']}, k-tied scales", 1),
            "posterior": {**preset.get("posterior", {}), "family": "k_tied"},
            "train": {**preset["train"], "kl_warmup_epochs": preset["train"]["epochs"]},
        }
        for name, preset in presets.items()
        if preset["method"] == "bbb"
    }
