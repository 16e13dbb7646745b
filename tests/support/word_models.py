"""Small models of words, and what they say, computed in NumPy from whole texts at once."""

import keras
import numpy as np
from small_models import PRIOR

from tfp_bayesrnn import (
    BayesianModel,
    MeanFieldNormal,
    VariationalDense,
    VariationalEmbedding,
    VariationalGRU,
    VariationalLSTM,
)
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Posterior
from zoo.data.vocabulary import Vocabulary
from zoo.language_model.network import LanguageModelNetwork

VOCABULARY = Vocabulary(["the", "<unk>", "<eos>", "cat", "sat", "on", "mat"])
SIZE = len(VOCABULARY)
PROMPTS = ([3, 4, 5, 0], [6], [2, 0, 3])
# Of float32 log-probabilities that were summed in another order.
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


def language_model_network(posterior=None, **arguments):
    keras.utils.set_random_seed(2)
    posterior = posterior or MeanFieldNormal((0.3, 0.6))
    network = LanguageModelNetwork(
        SIZE,
        units=5,
        layers=1,
        embedding_units=3,
        init_range=1.5,
        prior=PRIOR,
        recurrent_posterior=posterior,
        other_posterior=posterior,
        **arguments,
    )
    network.build()
    return network


def sequential_network():
    keras.utils.set_random_seed(2)
    common = {"prior": PRIOR, "posterior": MeanFieldNormal((0.3, 0.6))}
    network = keras.Sequential(
        [
            VariationalEmbedding(SIZE, 3, embeddings_initializer="normal", **common),
            VariationalGRU(4, return_sequences=True, **common),
            VariationalLSTM(4, return_sequences=True, **common),
            VariationalDense(SIZE, **common),
        ]
    )
    network.build((None, None))
    return network


def model_of(network):
    model = BayesianModel(network, training_rows=6)
    model.build((None, None))
    return model


def draws_of(network, count):
    posterior = Posterior.of(network)
    return [posterior.sample(seed) for seed in range(count)]


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def whole(network, ids, draws):
    """Of the network run on all of ids [T] at once: log-probabilities [S, T, V] of the next word."""

    def under(draw):
        with ambient.under(type(draw)(dict(draw))):
            return log_softmax(network(np.array([ids], np.int32)))[0]

    return np.stack([under(draw) for draw in draws])


def averaged(log_probs):
    return np.log(np.mean(np.exp(log_probs), axis=0))


def entropy(log_probs):
    return -np.sum(np.exp(log_probs) * log_probs, axis=-1)


def next_log_probs(network, ids, draws):
    return averaged(whole(network, ids, draws))[-1]


def padded(prompts, pad=SIZE - 1):
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    rows = np.full([len(prompts), lengths.max() + 1], pad, np.int32)
    for row, prompt in zip(rows, prompts, strict=True):
        row[: len(prompt)] = prompt
    return rows, lengths
