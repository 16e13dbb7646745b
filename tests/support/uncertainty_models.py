"""Models of the next word for the tests of the uncertainty benchmark, and texts for them."""

import keras
import numpy as np
from small_models import VOCABULARY

from zoo.data.vocabulary import Vocabulary
from zoo.uncertainty.benchmark import measure
from zoo.uncertainty.predictors import FunctionPredictor
from zoo.uncertainty.scorers import ModelScorer
from zoo.uncertainty.streams import Stream, make_streams

WORDS = Vocabulary(["<eos>", "<unk>", "a", "b", "c"])
SIZE = len(WORDS)


def chain(seed=0, samples=None):
    """Transition probabilities of random Markov chains, [S, V, V] or [V, V]."""
    shape = (SIZE, SIZE) if samples is None else (samples, SIZE, SIZE)
    logits = 1.5 * np.random.default_rng(seed).normal(size=shape)
    return np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))


def text_of(transitions, length, seed=0):
    """Words drawn from a chain."""
    generator, words = np.random.default_rng(seed), [0]
    cumulated, uniform = np.cumsum(transitions, axis=1), generator.uniform(size=length)
    for number in uniform[1:]:
        words.append(min(int(np.searchsorted(cumulated[words[-1]], number)), SIZE - 1))
    return np.array(words, np.int32)


def reads(transitions):
    """The chain, or chains, as a function to be scored."""
    return lambda ids, state: (transitions[..., ids, :], None)


def scorer_of(predictor, size=SIZE, rows=1, unroll=7, weights="mean"):
    return ModelScorer(predictor, "model", "method", weights, size, rows, unroll)


def streams_of(tokens, **arguments):
    return make_streams(tokens, WORDS, **arguments)


def stream_of_ids(length=45, seed=0):
    return Stream(np.random.default_rng(seed).integers(0, VOCABULARY, length).astype(np.int32), "")


def keras_model(*layers, activation=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.Embedding(VOCABULARY, 4), *layers, keras.layers.Dense(VOCABULARY, activation)]
    )
    model.build((None, None))
    for weight in model.trainable_variables:
        weight.assign(2.0 * np.random.default_rng(len(weight.shape)).normal(size=weight.shape))
    return model


def known_records():
    """Records of every text under three chains, their probabilities, and the texts."""
    transitions, streams = chain(samples=3), streams_of(text_of(chain(), 600))
    scorer = scorer_of(FunctionPredictor(reads(transitions)), unroll=50)
    records = {name: scorer.score(name, stream) for name, stream in streams.items()}
    probabilities = {name: transitions[:, stream.tokens[:-1]] for name, stream in streams.items()}
    return records, probabilities, streams, measure(scorer, streams, SIZE)["streams"]
