"""The methods of training, and the settings that the presets of every task share."""

from __future__ import annotations

METHODS = ("deterministic", "dropout", "variational_dropout", "bbb", "bbb_sharpened")
BAYESIAN_METHODS = ("bbb", "bbb_sharpened")

LABELS = {
    "deterministic": "LSTM, no regularisation",
    "dropout": "LSTM, dropout on non-recurrent connections",
    "variational_dropout": "LSTM, dropout masks tied over time",
    "bbb": "Bayes by Backprop",
    "bbb_sharpened": "Bayes by Backprop with posterior sharpening",
}

# Of Fortunato et al. (2017), and of their released code.
PRIOR = {"pi": 0.25, "log_sigma1": -1.0, "log_sigma2": -7.0, "granularity": "row"}

# In units of the prior's standard deviation; "recurrent" is the LSTM, "other" embedding and softmax.
POSTERIOR = {"recurrent_scale_range": (0.25, 0.5), "other_scale_range": (0.5, 1.0)}

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
