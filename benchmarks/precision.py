"""How far gradients in half precision are from those in float32.

    python -m benchmarks.precision                                   # the fresh model
    python -m benchmarks.precision --workdir=runs/ptb_small_bbb      # a trained one, of the same preset

Of one minibatch of random words under one draw of the weights: the gradient of the free energy's data term,
which is averaged over rows, and sharpening's g, which is summed over them. Errors are relative to the norm of
each weight's gradient in float32; largest and smallest over the weights.
"""

from __future__ import annotations

import argparse

import numpy as np
import tensorflow as tf

import zoo
from tfp_bayesrnn import noise
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from tfp_bayesrnn.model import recurrence, training
from zoo.runs.workdir import Workdir

BATCH, UNROLL = 20, 35


def gradients(preset: str, workdir: str | None, dtype: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of every trainable variable, and of every weight."""
    model = zoo.from_preset(preset, {"compute_dtype": dtype, "jit_compile": "off"})
    if workdir is not None:
        directory = Workdir(workdir, create=False).checkpoints_dir
        Checkpoints(directory, {"model": model}).restore_best()
    # Frequencies of words follow a power law, as in text.
    tokens = np.random.default_rng(0).zipf(1.3, (BATCH, UNROLL + 1)) % model.posterior.weights[0].shape[0]
    batch = training.Minibatch(
        tf.constant(tokens[:, :-1], tf.int32),
        tf.ones([BATCH], tf.bool),
        tf.constant(tokens[:, 1:], tf.int32),
        None,
    )
    state = recurrence.initial_state(model.network, BATCH)

    @tf.function(autograph=False)
    def compute():
        seed, without_kl = noise.make_seed(0), tf.constant(0.0)
        step = training.free_energy_gradients(model.objective, batch, state, seed, without_kl)
        g, _ = training.likelihood_gradient(model.posterior.sample(seed), model.objective, batch, state, True)
        return step.gradients, list(g.values())

    of_variables, of_weights = compute()
    return [value.numpy() for value in of_variables], [value.numpy() for value in of_weights]


def errors(values: list[np.ndarray], exact: list[np.ndarray]) -> list[float]:
    """The distance of each from what it should be, relative to the norm of that."""
    return [
        float(np.linalg.norm(value - wanted) / np.linalg.norm(wanted))
        for value, wanted in zip(values, exact, strict=True)
    ]


def main():
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="ptb_small_bbb")
    parser.add_argument("--workdir", help="of a trained model of this preset")
    arguments = parser.parse_args()
    exact = gradients(arguments.preset, arguments.workdir, "float32")
    print("compute type  gradient           relative error     largest value of g")
    for dtype in ("bfloat16", "float16"):
        values = gradients(arguments.preset, arguments.workdir, dtype)
        for name, each, wanted in zip(("free energy", "g"), values, exact, strict=True):
            relative = errors(each, wanted)
            largest = f"{max(np.abs(value).max() for value in each):18.1f}" if name == "g" else ""
            print(f"{dtype:12}  {name:12}  {min(relative):9.2%} to {max(relative):6.2%}  {largest}".rstrip())


if __name__ == "__main__":
    main()
