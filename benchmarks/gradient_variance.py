"""Variance of the minibatch gradient of mu over draws of the weights, with and without posterior sharpening.

    python -m benchmarks.gradient_variance --data_dir=DIR                    # Penn Treebank, 2 x 200 units
    python -m benchmarks.gradient_variance --preset=demo_bbb --epochs 0 1 4  # the built-in corpus

Trains the preset, and stops at some points of training. There it takes the same minibatches, from the same
RNN state, with both estimators and the same seeds of phi: plain Bayes by Backprop, and sharpened at the
initial eta = sigma0^2. For each it prints, summed over all weights,

    variance   of the gradient of mu over draws, unbiased, averaged over the minibatches
    signal     squared norm of its mean over draws, without the part that is variance

both of the whole free energy and of its data part alone (kl_weight = 0), and the ratio of the sharpened
estimator's figures to the plain one's. The gradients are those before clipping.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

import zoo
from benchmarks.kept import Kept
from tfp_bayesrnn import BayesianModel, PosteriorSharpening, noise
from tfp_bayesrnn.model import recurrence, training
from zoo.data.corpus import load_corpus
from zoo.data.windows import Windows, train_windows


class Moments(NamedTuple):
    """Of a gradient over draws, summed over all weights."""

    variance: float
    signal: float


def gradient_function(model: BayesianModel) -> Callable:
    """(batch, state, seed, kl_weight) -> gradients of mu."""
    mus = {id(weight.mu) for weight in model.posterior.variational}

    @tf.function(jit_compile=model.use_jit())
    def gradients(batch, state, seed, kl_weight):
        step = training.free_energy_gradients(model.objective, batch, state, seed, kl_weight)
        named = zip(model.trainable_variables, step.gradients, strict=True)
        return [gradient for variable, gradient in named if id(variable) in mus]

    return gradients


def moments(gradients, batch, state, kl_weight: float, draws: int) -> Moments:
    """Unbiased variance and signal of the gradient at one minibatch, over `draws` draws."""
    sums = squares = None
    for draw in range(draws):
        seed = noise.derive(noise.make_seed(1), draw)
        values = gradients(batch, state, seed, tf.constant(kl_weight))
        if sums is None:
            sums = squares = [tf.zeros_like(value) for value in values]
        sums = [total + value for total, value in zip(sums, values, strict=True)]
        squares = [total + value**2 for total, value in zip(squares, values, strict=True)]
    of_mean = sum(float(tf.reduce_sum((total / draws) ** 2)) for total in sums)
    of_draws = sum(float(tf.reduce_sum(total / draws)) for total in squares)
    variance = (of_draws - of_mean) * draws / (draws - 1)
    return Moments(variance, of_mean - variance / draws)


def gradient_functions(model: BayesianModel, sigma0: float) -> dict[str, Callable]:
    """The two estimators, of one network."""
    sharpened = BayesianModel(
        model.network, model.training_rows, sharpening=PosteriorSharpening(sigma0), seed=model.seed
    )
    sharpened.build((None, None))
    return {name: gradient_function(m) for name, m in (("plain", model), ("sharpened", sharpened))}


def measure(
    estimators: dict[str, Callable],
    model: BayesianModel,
    windows: Windows,
    start: int,
    minibatches: int,
    draws: int,
) -> list[dict]:
    """Rows of the table at the model's present weights, from window `start` on."""
    found = {(name, kl_weight): [] for kl_weight in (1.0, 0.0) for name in estimators}
    state = recurrence.initial_state(model.network, windows.batch)
    # One window before the first, under the mean, for a state that is not zero.
    for index, data in enumerate(windows.dataset(start, repeat=True).take(minibatches + 1)):
        batch = training.unpack(data)
        if index:
            for (name, kl_weight), values in found.items():
                values.append(moments(estimators[name], batch, state, kl_weight, draws))
        state = training.run_under(
            model.posterior.mean(), model.objective, batch, state, training=False
        ).state
    rows = []
    for (name, kl_weight), values in found.items():
        average = Moments(*(sum(parts) / len(values) for parts in zip(*values, strict=True)))
        plain = [m.variance for m in found["plain", kl_weight]]
        ratios = [m.variance / base for m, base in zip(values, plain, strict=True)]
        rows.append(
            {
                "gradient": "free energy" if kl_weight else "data part",
                "estimator": name,
                **average._asdict(),
                "variance_ratio": sum(ratios) / len(ratios),
                "variance_ratio_range": [min(ratios), max(ratios)],
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", default="ptb_small_bbb")
    parser.add_argument("--data_dir")
    parser.add_argument("--epochs", type=float, nargs="+", default=[0.0, 0.25, 1.0, 2.0, 3.0])
    parser.add_argument("--sigma0", type=float, default=0.02)
    parser.add_argument("--minibatches", type=int, default=4)
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--json", help="file of the figures, written after each epoch; those in it are kept")
    arguments = parser.parse_args()

    config = zoo.get_preset(arguments.preset)
    corpus = load_corpus(config.data.name, arguments.data_dir)
    model = zoo.from_preset(arguments.preset, corpus=corpus)
    windows = train_windows(corpus.train, config.train.batch, config.train.unroll, config.train.tail)
    estimators = gradient_functions(model, arguments.sigma0)
    names = ("preset", "sigma0", "minibatches", "draws")
    kept = Kept(arguments.json, {name: getattr(arguments, name) for name in names})
    train_step = tf.function(model.train_step)
    stream, step = iter(windows.dataset(0, repeat=True)), 0
    print(f"{arguments.preset}, sigma0 {arguments.sigma0:g}, {arguments.minibatches} minibatches of ", end="")
    print(f"batch {windows.batch}, unroll {windows.unroll}, {arguments.draws} draws each")
    print("  epoch  gradient     estimator   variance     signal       variance, ratio to plain (range)")
    for epoch in sorted(arguments.epochs):
        while step < round(epoch * len(windows)):
            train_step(next(stream))
            step += 1
        at = estimators, model, windows, step, arguments.minibatches, arguments.draws
        for row in kept.piece(f"epoch {epoch:g}", lambda at=at: measure(*at)):
            low, high = row["variance_ratio_range"]
            print(
                f"  {epoch:<5g}  {row['gradient']:<11}  {row['estimator']:<10}  {row['variance']:<11.5g}  "
                f"{row['signal']:<11.5g}  {row['variance_ratio']:.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
