"""Models of a few weights, and data for them, for the tests of training and evaluation."""

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn import (
    BayesianModel,
    MeanFieldNormal,
    NormalLikelihood,
    PointMass,
    ScaleMixturePrior,
    VariationalDense,
    VariationalEmbedding,
    VariationalLSTM,
)
from tfp_bayesrnn.loop.loop import Hooks

VOCABULARY, UNITS, ROWS, STEPS = 7, 3, 2, 4

# Both components wide: the KL and its gradient are of the data's size, and one does not drown the other.
PRIOR = ScaleMixturePrior(pi=0.5, log_sigma1=0.0, log_sigma2=-1.0)
# And a posterior that is wide too.
WIDE = {"prior": PRIOR, "posterior": MeanFieldNormal((0.5, 1.0))}


def regression_data(rows=6, features=3, seed=0):
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(rows, features)).astype(np.float32)
    return inputs, generator.normal(size=(rows, 1)).astype(np.float32)


def regression(layers=None, *, features=3, compiled=True, run_eagerly=True, **arguments):
    """Two variational layers, or other `layers`, with a normal likelihood; 6 training rows."""
    keras.utils.set_random_seed(1)
    layers = layers or [VariationalDense(2, activation="tanh", **WIDE), VariationalDense(1, **WIDE)]
    arguments = {
        "training_rows": 6,
        "likelihood": NormalLikelihood(0.5),
        "kl_warmup_steps": 0,
        "seed": 3,
        **arguments,
    }
    model = BayesianModel(keras.Sequential(layers), **arguments)
    model.build((None, features))
    if compiled:
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=run_eagerly)
    return model


def tokens(rows=ROWS, length=3 * STEPS, seed=0):
    """Ids [rows, length + 1]: `length` predictions a row."""
    return np.random.default_rng(seed).integers(0, VOCABULARY, (rows, length + 1)).astype(np.int32)


def language_model(*, posterior=None, layers=(), learning_rate=0.5, run_eagerly=True, **arguments):
    """Embedding, LSTM, further `layers`, softmax; all of it a point mass with `posterior=PointMass()`."""
    keras.utils.set_random_seed(1)
    common = {"prior": PRIOR, "posterior": posterior or WIDE["posterior"]}
    recurrent = {"prior": PRIOR, "posterior": posterior or MeanFieldNormal((0.25, 0.5))}
    network = keras.Sequential(
        [
            VariationalEmbedding(VOCABULARY, UNITS, embeddings_initializer="normal", **common),
            VariationalLSTM(UNITS, return_sequences=True, **recurrent),
            *layers,
            VariationalDense(VOCABULARY, **common),
        ]
    )
    model = BayesianModel(network, **{"training_rows": 6, "kl_warmup_steps": 0, "seed": 3, **arguments})
    model.build((None, None))
    model.compile(
        keras.optimizers.SGD(learning_rate), clip_norm=5.0, jit_compile=False, run_eagerly=run_eagerly
    )
    return model


def point_mass_language_model(**arguments):
    return language_model(posterior=PointMass(), training_rows=None, **arguments)


def windows(ids, unroll=STEPS):
    """One pass over ids [B, N + 1] in windows of `unroll` steps, as a data stream yields them."""
    elements = []
    for start in range(0, ids.shape[1] - 1, unroll):
        inputs, targets = ids[:, :-1][:, start : start + unroll], ids[:, 1:][:, start : start + unroll]
        elements.append(({"inputs": inputs, "is_first": np.full(len(ids), start == 0)}, targets))
    return elements


def as_dataset(elements):
    """A `tf.data.Dataset` of elements of one shape."""
    return tf.data.Dataset.from_tensor_slices(
        tf.nest.map_structure(lambda *parts: np.stack(parts), *elements)
    )


class RecordingHooks(Hooks):
    """Keeps the reports of a loop's epochs; every validation NLL is 0."""

    def __init__(self):
        self.reports = []

    def on_epoch_end(self, report):
        self.reports.append(report)
        return 0.0


def values(variables):
    return [variable.numpy().copy() for variable in variables]


def assert_identical(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)
