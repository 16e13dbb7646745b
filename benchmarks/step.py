"""Times one training step of the language model, against the same deterministic model in Keras layers.

    python -m benchmarks.step                      # PTB medium shapes: 2 x 650 units, vocabulary 10,000
    python -m benchmarks.step --units=200          # PTB small
    python -m benchmarks.step --layer              # one LSTM layer, forward and backward

Every repetition runs all contestants one after the other, so that a change in the machine's speed meets all
of them; figures are medians of the repetitions, and ratios to Keras are taken repetition by repetition. All
contestants use random data, SGD, and the same clipped, per-row loss. The peak memory is of a process of its
own that trains the Bayesian model.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, Posterior, PosteriorSharpening, VariationalLSTM, noise, ops
from zoo.language_model.network import build_network
from zoo.presets import get_preset

BATCH, UNROLL, VOCABULARY = 20, 35, 10_000
PTB_WINDOWS = 1327


def minibatch():
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, UNROLL + 1)).astype(np.int32)
    x = {"inputs": tf.constant(tokens[:, :-1]), "is_first": tf.zeros([BATCH], tf.bool)}
    return x, tf.constant(tokens[:, 1:]), tf.ones([BATCH, UNROLL])


def keras_step(units: int) -> Callable[[], None]:
    """The deterministic model in Keras's own layers."""
    recurrent = [keras.layers.LSTM(units, return_sequences=True) for _ in range(2)]
    model = keras.Sequential(
        [keras.layers.Embedding(VOCABULARY, units), *recurrent, keras.layers.Dense(VOCABULARY)]
    )
    (x, targets, _) = minibatch()
    model(x["inputs"])
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

    @tf.function
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


def our_step(units: int, method: str, jit: bool) -> Callable[[], None]:
    """`BayesianModel.train_step` of the zoo's model."""
    config = get_preset(f"ptb_medium_{method}")
    config.model.units = config.model.embedding_units = units
    sharpening = PosteriorSharpening() if method == "bbb_sharpened" else None
    model = BayesianModel(
        build_network(config, VOCABULARY), training_rows=BATCH * PTB_WINDOWS, sharpening=sharpening
    )
    model.build((None, None))
    model.compile(keras.optimizers.SGD(0.1), clip_norm=5.0, jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    data = minibatch()
    step = tf.function(model.train_step)
    return lambda: step(data)["loss"].numpy()


def step_contestants(units: int) -> dict[str, Callable[[], None]]:
    contestants = {"Keras layers, deterministic": keras_step(units)}
    for method in ("deterministic", "bbb", "bbb_sharpened"):
        for jit in (False, True):
            label = f"ours, {method}{', XLA' if jit else ''}"
            contestants[label] = our_step(units, method, jit)
    return contestants


def layer_contestants(units: int) -> dict[str, Callable[[], None]]:
    inputs = tf.random.normal([BATCH, UNROLL, units])

    def differentiated(forward, variables, jit=False):
        @tf.function(jit_compile=jit)
        def step(seed):
            with tf.GradientTape() as tape:
                loss = forward(seed)
            return tape.gradient(loss, variables)

        seed = noise.make_seed(0)
        return lambda: step(seed)[0][0, 0].numpy()

    reference = keras.layers.LSTM(units, return_sequences=True)
    reference(inputs)
    weights = [tf.Variable(variable.value) for variable in reference.variables[:3]]

    def kernel(_):
        zeros = tf.zeros([BATCH, units])
        return tf.reduce_sum(ops.lstm(inputs, ops.LSTMState(zeros, zeros), *weights)[0])

    layer = VariationalLSTM(units, return_sequences=True)
    layer.build(inputs.shape)
    posterior = Posterior.of(layer)

    def variational(seed):
        draw = posterior.sample(seed)
        with draw.in_force():
            return tf.reduce_sum(layer(inputs, training=True)) + 1e-5 * posterior.kl(draw)

    contestants = {
        "keras.layers.LSTM": differentiated(
            lambda _: tf.reduce_sum(reference(inputs)), [v.value for v in reference.trainable_variables]
        )
    }
    for jit in (False, True):
        suffix = ", XLA" if jit else ""
        contestants[f"ours, deterministic{suffix}"] = differentiated(kernel, weights, jit)
        variables = [v.value for v in layer.trainable_variables]
        contestants[f"ours, variational{suffix}"] = differentiated(variational, variables, jit)
    return contestants


def measure(contestants: dict[str, Callable[[], None]], repetitions: int, calls: int) -> list[dict]:
    """Interleaved timings: milliseconds and ratios to the first contestant."""
    for contestant in contestants.values():
        contestant()
    times = {name: [] for name in contestants}
    for _ in range(repetitions):
        for name, contestant in contestants.items():
            contestant()
            start = time.perf_counter()
            for _ in range(calls):
                contestant()
            times[name].append(1e3 * (time.perf_counter() - start) / calls)
    reference = next(iter(times.values()))
    rows = []
    for name, values in times.items():
        ratios = sorted(value / base for value, base in zip(values, reference, strict=True))
        rows.append(
            {
                "name": name,
                "milliseconds": statistics.median(values),
                "ratio": statistics.median(ratios),
                "ratio_min": ratios[0],
                "ratio_max": ratios[-1],
                "all_milliseconds": values,
            }
        )
    return rows


def sharpening_ratios(rows: list[dict]) -> dict[str, list[float]]:
    """Sharpened to plain Bayesian step, repetition by repetition: [smallest, median, largest]."""
    times = {row["name"]: row["all_milliseconds"] for row in rows}
    found = {}
    for suffix in ("", ", XLA"):
        pairs = zip(times[f"ours, bbb_sharpened{suffix}"], times[f"ours, bbb{suffix}"], strict=True)
        ratios = sorted(sharpened / plain for sharpened, plain in pairs)
        found[f"sharpened / bbb{suffix}"] = [ratios[0], statistics.median(ratios), ratios[-1]]
    return found


def peak_memory(units: int) -> float:
    """GiB at the peak of a fresh process that trains the Bayesian model for a few steps."""
    command = [sys.executable, "-m", "benchmarks.step", f"--units={units}", "--memory-child"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--units", type=int, default=650)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--calls", type=int, default=3, help="steps in one repetition")
    parser.add_argument("--layer", action="store_true", help="one LSTM layer, not the whole step")
    parser.add_argument("--json", help="file to write the figures to")
    parser.add_argument("--memory-child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_child:
        step = our_step(arguments.units, "bbb", True)
        for _ in range(8):
            step()
        # Not getrusage: its peak is inherited from the process that started this one.
        status = pathlib.Path("/proc/self/status").read_text().split()
        print(int(status[status.index("VmHWM:") + 1]) / 2**20)
        return
    contestants = (layer_contestants if arguments.layer else step_contestants)(arguments.units)
    rows = measure(contestants, arguments.repetitions, arguments.calls)
    what = "one LSTM layer, forward and backward" if arguments.layer else "one training step"
    print(f"{what}: {arguments.units} units, batch {BATCH}, unroll {UNROLL}; {platform.machine()}")
    for row in rows:
        print(
            f"  {row['name']:<30} {row['milliseconds']:8.1f} ms   x{row['ratio']:.2f} "
            f"({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
        )
    figures = {"what": what, "units": arguments.units, "rows": rows}
    if not arguments.layer:
        figures["sharpening"] = sharpening_ratios(rows)
        for name, (low, median, high) in figures["sharpening"].items():
            print(f"  {name:<30} {'':>8}      x{median:.2f} ({low:.2f} to {high:.2f})")
        figures["peak_memory_gib"] = peak_memory(arguments.units)
        print(f"  peak memory of a training process, Bayesian: {figures['peak_memory_gib']:.2f} GiB")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
