"""Other libraries' LSTM layers, forward and backward, timed as `benchmarks.speed` asks.

Run by the Python of an environment of their own (`requirements-peers.txt`), one process for each library, so
that none can disturb another or the process that asks. Nothing of this project is imported.

Reads commands on stdin, a line each, and answers each with one line of JSON on stdout:

    time NAME CALLS  ->  {"seconds": seconds of one call}, the mean of so many
                         {"missing": why} where it cannot be imported, {"error": why} where it fails
    versions         ->  {"torch": "2.13.0+cpu", ...}: of the libraries that are installed

The work is that of `benchmarks.contestants`: batch 20, 35 steps, 650 units, gradients of the weights. The
loss is the sum of the outputs plus, for Bayesian layers, a little KL. Every weight of those, biases too, has
a mean and a scale. Each has the prior that its library gives it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable

BATCH, UNROLL, UNITS = 20, 35, 650
KL_WEIGHT = 1e-5
LIBRARIES = ("torch", "blitz-bayesian-pytorch", "bayesian-torch", "edward2", "tensorflow", "tf_keras")


def _torch_call(layer, loss: Callable) -> Callable[[], None]:
    """A call that finds the gradients of a PyTorch layer's parameters."""
    import torch

    torch.set_num_threads(os.cpu_count())
    inputs = torch.randn(BATCH, UNROLL, UNITS)

    def call():
        layer.zero_grad(set_to_none=True)
        loss(inputs).backward()

    return call


def torch_lstm() -> Callable[[], None]:
    """Deterministic: PyTorch's own layer, which oneDNN runs."""
    import torch

    layer = torch.nn.LSTM(UNITS, UNITS, batch_first=True)
    return _torch_call(layer, lambda inputs: layer(inputs)[0].sum())


def blitz() -> Callable[[], None]:
    """BLiTZ: one draw for the sequence."""
    from blitz.losses import kl_divergence_from_nn
    from blitz.modules import BayesianLSTM

    layer = BayesianLSTM(UNITS, UNITS)

    def loss(inputs):
        return layer(inputs)[0].sum() + KL_WEIGHT * kl_divergence_from_nn(layer)

    return _torch_call(layer, loss)


def bayesian_torch() -> Callable[[], None]:
    """bayesian-torch: draws, and adds the KL, at every step."""
    from bayesian_torch.layers import LSTMReparameterization

    layer = LSTMReparameterization(UNITS, UNITS)

    def loss(inputs):
        outputs, _, kl = layer(inputs)
        return outputs.sum() + KL_WEIGHT * kl

    return _torch_call(layer, loss)


def edward2() -> Callable[[], None]:
    """Edward2: one draw for the sequence; its layers need Keras 2."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tensorflow as tf
    from edward2.tensorflow.layers import LSTMCellReparameterization

    cell = LSTMCellReparameterization(
        UNITS, bias_initializer="trainable_normal", bias_regularizer="normal_kl_divergence"
    )
    layer = tf.keras.layers.RNN(cell, return_sequences=True)
    inputs = tf.random.normal([BATCH, UNROLL, UNITS])
    layer(inputs)

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(inputs)) + KL_WEIGHT * tf.add_n(layer.losses)
        return tape.gradient(loss, layer.trainable_variables)

    return lambda: gradients()[0][0, 0].numpy()


PEERS = {
    "torch.nn.LSTM": torch_lstm,
    "BLiTZ": blitz,
    "bayesian-torch": bayesian_torch,
    "Edward2": edward2,
}


def seconds(call: Callable[[], None], calls: int) -> float:
    """Of one call, the mean of so many."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def answer(command: list[str], made: dict[str, Callable[[], None]]) -> dict:
    """The answer to a command; `made` keeps the layers from one to the next."""
    try:
        if command == ["versions"]:
            return versions()
        verb, name, calls = command if len(command) == 3 else ("", "", "")
        if verb != "time" or name not in PEERS:
            return {"error": f"no such command: {' '.join(command)}"}
        if name not in made:
            made[name] = PEERS[name]()
        return {"seconds": seconds(made[name], int(calls))}
    except ImportError as error:
        return {"missing": f"{type(error).__name__}: {error}"}
    except Exception as error:  # Whatever a library does, the benchmark goes on without it.
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    """Answers until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # What the libraries print is no answer.
    made: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        print(json.dumps(answer(line.split(), made)), file=answers)


if __name__ == "__main__":
    main()
