"""The methods of training."""

from __future__ import annotations

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
