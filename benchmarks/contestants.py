"""What `benchmarks.speed` times in this process: our work and Keras's, at the shapes of Penn Treebank.

Each function makes contestants: functions without arguments that do their work once and wait for it. Ours are
compiled by XLA, as is the default, or where they say so not; Keras's are not, as is Keras's default on a CPU,
or where they say so all of the work is. All use random data; training steps use SGD and the same clipped
loss, averaged over rows.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn import (
    BayesianModel,
    PointMass,
    Posterior,
    PosteriorSharpening,
    VariationalLSTM,
    noise,
    released,
)
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from zoo.configuration.config import with_overrides
from zoo.language_model.network import build_network
from zoo.presets import get_preset

# Contestants are alike, and TensorFlow takes them for one function traced again and again.
tf.get_logger().setLevel("ERROR")

Call = Callable[[], object]

BATCH, UNROLL, VOCABULARY = 20, 35, 10_000
UNITS = {"small": 200, "medium": 650}
TRAINING_ROWS = BATCH * 1327  # Windows of 35 words in 20 rows of Penn Treebank.
METHODS = {"deterministic": "deterministic", "BBB": "bbb", "BBB + sharpening": "bbb_sharpened"}


def windows(count: int) -> list[tuple]:
    """A stream of random words, as a data stream yields it."""
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (count, BATCH, UNROLL + 1)).astype(np.int32)
    return [
        (
            {"inputs": tf.constant(window[:, :-1]), "is_first": tf.fill([BATCH], index == 0)},
            tf.constant(window[:, 1:]),
        )
        for index, window in enumerate(tokens)
    ]


# One LSTM layer, forward and backward: gradients of its weights, not of its inputs.


def layer(units: int) -> dict[str, Call]:
    """Keras's layer and ours, as a point mass and with a distribution over every weight."""
    inputs = tf.random.normal([BATCH, UNROLL, units])
    reference = keras.layers.LSTM(units, return_sequences=True)
    reference(inputs)
    deterministic = VariationalLSTM(units, return_sequences=True, posterior=PointMass())
    deterministic.build(inputs.shape)
    variational = VariationalLSTM(units, return_sequences=True, **released.RECURRENT)
    variational.build(inputs.shape)
    posterior = Posterior.of(variational)

    def free_energy(seed):
        draw = posterior.sample(seed)
        outputs = draw.run(variational, inputs, training=True)
        return tf.reduce_sum(outputs) + 1e-5 * posterior.kl(draw)

    def plain(layer):
        return lambda seed: tf.reduce_sum(layer(inputs, training=True))

    return {
        "keras.layers.LSTM": _gradients(plain(reference), reference, jit=False),
        "keras.layers.LSTM, XLA": _gradients(plain(reference), reference, jit=True),
        "deterministic": _gradients(plain(deterministic), deterministic, jit=True),
        "variational": _gradients(free_energy, variational, jit=True),
        "deterministic, no XLA": _gradients(plain(deterministic), deterministic, jit=False),
        "variational, no XLA": _gradients(free_energy, variational, jit=False),
    }


def _gradients(loss: Callable, layer: keras.layers.Layer, jit: bool) -> Call:
    variables = [variable.value for variable in layer.trainable_variables]

    @tf.function(jit_compile=jit, autograph=False)
    def gradients(seed):
        with tf.GradientTape() as tape:
            value = loss(seed)
        return tape.gradient(value, variables)

    seed = noise.make_seed(0)
    return lambda: gradients(seed)[0][0, 0].numpy()


# A whole training step.


def training(size: str, methods=METHODS, variants: bool = False) -> dict[str, Call]:
    """Training steps of our models and of the same deterministic one in Keras's layers.

    Args:
      size: "small" or "medium".
      methods: of `METHODS`.
      variants: whether to add Keras's with XLA and ours without, ours in bfloat16, and the matrix products
        alone.
    """
    found = {"Keras layers": keras_step(UNITS[size])}
    found |= {method: our_step(size, method) for method in methods}
    if variants:
        found["Keras layers, XLA"] = keras_step(UNITS[size], jit=True)
        found |= {f"{method}, no XLA": our_step(size, method, jit=False) for method in methods}
        for method in ("deterministic", "BBB"):
            found[f"{method}, bfloat16"] = our_step(size, method, dtype="bfloat16")
        found["matrix products alone"] = products_of_step(UNITS[size])
    return found


def keras_step(units: int, jit: bool = False) -> Call:
    """The deterministic model in Keras's own layers, all of its step compiled by XLA or none."""
    recurrent = [keras.layers.LSTM(units, return_sequences=True) for _ in range(2)]
    model = keras.Sequential(
        [keras.layers.Embedding(VOCABULARY, units), *recurrent, keras.layers.Dense(VOCABULARY)]
    )
    ((x, targets),) = windows(1)
    model(x["inputs"])
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False, jit_compile=jit)
    def step():
        with tf.GradientTape() as tape:
            logits = model(x["inputs"], training=True)
            nats = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_sum(nats) / BATCH
        gradients = tape.gradient(loss, model.trainable_variables)
        gradients, _ = tf.clip_by_global_norm(gradients, 5.0)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return lambda: step().numpy()


def our_model(size: str, method: str, jit: bool | str = "auto", dtype: str = "float32") -> BayesianModel:
    """The zoo's model, built and compiled for training."""
    config = with_overrides(get_preset(f"ptb_{size}_{METHODS[method]}"), {"compute_dtype": dtype})
    sharpening = PosteriorSharpening() if method == "BBB + sharpening" else None
    network = build_network(config, VOCABULARY)
    model = BayesianModel(network, training_rows=TRAINING_ROWS, kl_warmup_steps=0, sharpening=sharpening)
    model.build((None, None))
    model.compile(keras.optimizers.SGD(0.1), clip_norm=5.0, jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    return model


def our_step(size: str, method: str, jit: bool | str = "auto", dtype: str = "float32") -> Call:
    """`BayesianModel.train_step` of the zoo's model."""
    model = our_model(size, method, jit, dtype)
    (data,) = windows(1)
    step = tf.function(model.train_step, autograph=False)
    return lambda: step(data)["loss"].numpy()


def products_of_step(units: int) -> Call:
    """The matrix products of the deterministic step, one after the other, and nothing else of it.

    Those of two LSTM layers and the softmax, each forward and for both gradients: all steps at once, except
    for those with the recurrent kernel that wait for the step before or after.
    """

    def random(*shape):
        return tf.Variable(tf.random.normal(shape))

    hiddens, hidden = random(BATCH * UNROLL, units), random(UNROLL, BATCH, units)
    gates, gate = random(BATCH * UNROLL, 4 * units), random(UNROLL, BATCH, 4 * units)
    logits = random(BATCH * UNROLL, VOCABULARY)
    kernels = [(random(units, 4 * units), random(units, 4 * units)) for _ in range(2)]
    softmax = random(units, VOCABULARY)

    @tf.function(autograph=False)
    def step():
        done = []

        def multiply(a, b, **transposed):
            with tf.control_dependencies(done[-1:]):
                # An element of each is returned: of a product that nobody reads TensorFlow makes nothing.
                done.append(tf.matmul(a, b, **transposed)[0, 0])

        def dense(x, weight, gradient):
            multiply(x, weight)
            multiply(gradient, weight, transpose_b=True)
            multiply(x, gradient, transpose_a=True)

        for kernel, recurrent_kernel in kernels:
            dense(hiddens, kernel, gates)
            for time in range(UNROLL):
                multiply(hidden[time], recurrent_kernel)
                multiply(gate[time], recurrent_kernel, transpose_b=True)
            multiply(hiddens, gates, transpose_a=True)
        dense(hiddens, softmax, logits)
        return tf.add_n(done)

    return lambda: step().numpy()


# Evaluation.


def evaluation(size: str, count: int, samples: int = 10) -> dict[str, Call]:
    """The average over samples, and as many passes under the mean, over a stream of `count` windows."""
    evaluator, stream = StreamEvaluator(our_model(size, "BBB")), windows(count)
    evaluator.average(stream[:1], samples=1), evaluator.mean(stream[:1])  # Compiles.
    return {
        "average over samples": lambda: evaluator.average(stream, samples),
        "passes under the mean": lambda: [evaluator.mean(stream) for _ in range(samples)],
    }
