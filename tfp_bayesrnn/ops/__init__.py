"""Recurrences as pure functions on tensors: no variables, no randomness, no Keras."""

from tfp_bayesrnn.ops.gru import gru, gru_step
from tfp_bayesrnn.ops.lstm import LSTMState, lstm, lstm_step
from tfp_bayesrnn.ops.sequence import project, recur

__all__ = ["LSTMState", "gru", "gru_step", "lstm", "lstm_step", "project", "recur"]
