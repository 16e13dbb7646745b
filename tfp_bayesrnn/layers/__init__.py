"""Keras layers that own variational weights."""

from tfp_bayesrnn.layers.cell import CellWeight, VariationalRNNCell
from tfp_bayesrnn.layers.dense import VariationalDense
from tfp_bayesrnn.layers.dropout import Dropout
from tfp_bayesrnn.layers.embedding import VariationalEmbedding
from tfp_bayesrnn.layers.gru import VariationalGRU, VariationalGRUCell
from tfp_bayesrnn.layers.lstm import VariationalLSTM, VariationalLSTMCell
from tfp_bayesrnn.layers.mgu import VariationalMGU, VariationalMGUCell
from tfp_bayesrnn.layers.recurrent import VariationalRNN

__all__ = [
    "CellWeight",
    "Dropout",
    "VariationalDense",
    "VariationalEmbedding",
    "VariationalGRU",
    "VariationalGRUCell",
    "VariationalLSTM",
    "VariationalLSTMCell",
    "VariationalMGU",
    "VariationalMGUCell",
    "VariationalRNN",
    "VariationalRNNCell",
]
