"""Classifies real handwritten digits: accuracy, likelihood and calibration of four methods.

    python -m benchmarks.digits                        # 5 seeds, 600 training examples
    python -m benchmarks.digits --training_rows=100    # few data
    python -m benchmarks.digits --validation           # the rows that hyper-parameters were chosen on

Data: the 1797 images of 8 x 8 pixels that come with scikit-learn (`pip install scikit-learn`). A seed decides
which of them are for training, the first weights and all noise; at one seed all methods see the same data.
The validation rows are the same for every seed, and in no training or test part.

Predictions are by the posterior mean (no dropout), and by the average of the predicted probabilities over
samples of the weights (of the dropout masks). Those of the sharpened model are of q(phi), which has seen no
test data: sharpening changes the training only.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from benchmarks.kept import Kept
from tfp_bayesrnn import (
    BayesianModel,
    Dropout,
    MeanFieldNormal,
    NormalPrior,
    PointMass,
    PosteriorSharpening,
    VariationalDense,
)
from tfp_bayesrnn.prediction import uncertainty
from tfp_bayesrnn.prediction.averages import log_mean_exp

UNITS, CLASSES, BATCH = 100, 10, 50
VALIDATION_ROWS, VALIDATION_SEED = 397, 12345
SAMPLES = 20

# Hyper-parameters, chosen by the NLL of the average over samples (of the mean, where there is no noise) on
# the validation rows; docs/sharpening.md has what was tried. 600 examples cannot pay for the KL of 17,400
# weights: narrow priors, which have the better bound, underfit. So does the wide one, but less: its posterior
# has not widened as far as the prior when training ends.
STEPS = 2400
PRIOR_SCALE = 1.0
POSTERIOR_SCALE = 0.05


@dataclasses.dataclass(frozen=True)
class Method:
    """What tells one row of the table from another."""

    learning_rate: float
    dropout: float = 0.0
    variational: bool = False
    kl_weight: float = 1.0
    sigma0: float | None = None  # Of the sharpening; None for none.


METHODS = {
    "deterministic": Method(3e-3),
    "dropout": Method(3e-3, dropout=0.2),
    "bbb": Method(1e-2, variational=True),
    "bbb_sharpened": Method(1e-2, variational=True, sigma0=0.02),
    "bbb, tempered": Method(1e-2, variational=True, kl_weight=0.1),
    "bbb_sharpened, tempered": Method(1e-2, variational=True, kl_weight=0.1, sigma0=0.02),
}
# What sharpening changes: seed by seed, the first less the second.
PAIRS = {
    "sharpened - bbb": ("bbb_sharpened", "bbb"),
    "sharpened - bbb, tempered": ("bbb_sharpened, tempered", "bbb, tempered"),
}


class Examples(NamedTuple):
    """Images, float32 [N, 64] in [0, 1], and the digits they show, int32 [N]."""

    images: np.ndarray
    digits: np.ndarray

    def take(self, rows: np.ndarray) -> Examples:
        return Examples(self.images[rows], self.digits[rows])


def load_examples() -> Examples:
    """scikit-learn's digits."""
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    return Examples((images / 16.0).astype(np.float32), digits.astype(np.int32))


def split(
    examples: Examples, training_rows: int, seed: int, validation_rows: int = VALIDATION_ROWS
) -> tuple[Examples, Examples, Examples]:
    """Training examples, those of validation, which are the same for every seed, and the rest: of test."""
    rows = np.random.default_rng(VALIDATION_SEED).permutation(len(examples.digits))
    validation, rows = rows[:validation_rows], rows[validation_rows:]
    if not 0 < training_rows < len(rows):
        raise ValueError(f"training_rows must be below {len(rows)}. Received: {training_rows}")
    rows = np.random.default_rng(seed).permutation(rows)
    train, test = rows[:training_rows], rows[training_rows:]
    return examples.take(train), examples.take(validation), examples.take(test)


def score(log_probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Accuracy in percent, NLL in nats per example and ECE in percent of log-probabilities [N, classes]."""
    log_probabilities = np.asarray(log_probabilities, np.float64)
    right = log_probabilities.argmax(axis=1) == targets
    nats = -log_probabilities[np.arange(len(targets)), targets]
    # Rounding may make a probability a little more than 1.
    confidence = np.minimum(np.exp(log_probabilities.max(axis=1)), 1.0)
    ece = uncertainty.expected_calibration_error(confidence, right)
    return {"accuracy": 100.0 * float(right.mean()), "nll": float(nats.mean()), "ece": 100.0 * ece}


def build_model(method: Method, training_rows: int, steps: int, seed: int) -> BayesianModel:
    """The network of a method, compiled; the learning rate falls to 0 along a cosine over `steps`."""
    keras.utils.set_random_seed(seed)
    relative = POSTERIOR_SCALE / PRIOR_SCALE
    posterior = MeanFieldNormal((relative, relative)) if method.variational else PointMass()
    common = {"prior": NormalPrior(PRIOR_SCALE), "posterior": posterior}
    layers = []
    for _ in range(2):
        layers += [VariationalDense(UNITS, activation="relu", **common), Dropout(method.dropout)]
    layers.append(VariationalDense(CLASSES, **common))
    model = BayesianModel(
        keras.Sequential(layers),
        training_rows=training_rows,
        kl_weight=method.kl_weight,
        kl_warmup_steps=0,
        sharpening=None if method.sigma0 is None else PosteriorSharpening(method.sigma0),
        seed=seed,
    )
    model.build((None, 64))
    schedule = keras.optimizers.schedules.CosineDecay(method.learning_rate, steps)
    # A network this small runs for as long as XLA would compile.
    an_epoch = math.ceil(training_rows / BATCH)
    model.compile(keras.optimizers.Adam(schedule), jit_compile=False, steps_per_execution=an_epoch)
    return model


def predict_by_samples(model: BayesianModel, images: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Log of the average of the predicted probabilities over samples from the posterior, [N, classes]."""

    @tf.function
    def log_probabilities(inputs, sample_seed):
        draw = model.posterior.sample(sample_seed)
        return tf.nn.log_softmax(draw.run(model.network, inputs))

    inputs = tf.constant(images)
    seeds = (tf.constant([seed, sample]) for sample in range(samples))
    return log_mean_exp(log_probabilities(inputs, one).numpy() for one in seeds)


def train_and_score(method: Method, train: Examples, held_out: Examples, epochs: int, seed: int) -> dict:
    """Trains a model and scores it on examples that it has not seen.

    Returns:
      "mean" and, where there is something to sample, "samples": see `score`; "training": over the last tenth
      of the epochs, the objective and its parts, in nats per example, but `kl` in nats, of the whole model.
    """
    rows = len(train.digits)
    model = build_model(method, rows, epochs * math.ceil(rows / BATCH), seed)
    history = model.fit(train.images, train.digits, batch_size=BATCH, epochs=epochs, verbose=0).history
    last = max(1, epochs // 10)
    parts = [name for name in ("free_energy", "nll", "kl_sharpening", "kl") if name in history]
    result = {
        "mean": score(tf.nn.log_softmax(model(held_out.images)), held_out.digits),
        "training": {name: float(np.mean(history[name][-last:])) for name in parts},
    }
    if method.variational or method.dropout:
        averaged = predict_by_samples(model, held_out.images, SAMPLES, seed)
        result["samples"] = score(averaged, held_out.digits)
    return result


def mean_and_error(values: list[float]) -> dict:
    """The mean over seeds and its standard error."""
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {"mean": float(np.mean(values)), "standard_error": float(error)}


def summarise(results: list[dict]) -> dict:
    """`mean_and_error` of every figure in the results of several seeds."""
    return {
        kind: {name: mean_and_error([result[kind][name] for result in results]) for name in figures}
        for kind, figures in results[0].items()
    }


def paired_difference(ours: list[dict], base: list[dict]) -> dict:
    """`mean_and_error` of ours - base, seed by seed, of every score and of the parts of the objective."""
    differences = [
        {
            kind: {name: one[kind][name] - other[kind][name] for name in one[kind] if name in other[kind]}
            for kind in ("mean", "samples", "training")
        }
        for one, other in zip(ours, base, strict=True)
    ]
    return summarise(differences)


def _columns(scores: dict | None, sign: str = "") -> str:
    if scores is None:
        return ""
    digits = {"accuracy": (2, 6), "nll": (4, 7), "ece": (2, 5)}
    return "   ".join(
        f"{scores[name]['mean']:{sign}{width}.{places}f} ± {scores[name]['standard_error']:.{places}f}"
        for name, (places, width) in digits.items()
    )


def print_table(summaries: dict[str, dict], differences: dict[str, dict]) -> None:
    title = f"{'accuracy %':<13}   {'NLL, nats':<16}   {'ECE %':<12}"
    print(f"  {'':<26} {'posterior mean':<49} average over {SAMPLES} samples")
    print(f"  {'':<26} {title}   {title}".rstrip())
    for name, summary in summaries.items():
        print(f"  {name:<26} {_columns(summary['mean'])}   {_columns(summary.get('samples'))}".rstrip())
    for name, difference in differences.items():
        print(f"  {name:<26} {_columns(difference['mean'], '+')}   {_columns(difference['samples'], '+')}")
    print("  end of training, nats per example: objective = NLL + sharpening's KL + weighted share of the KL")
    for name, summary in summaries.items():
        parts = {part: value["mean"] for part, value in summary["training"].items()}
        sharpening = parts.get("kl_sharpening", 0.0)
        share = abs(parts["free_energy"] - parts["nll"] - sharpening)  # A rounding error is no -0.
        objective = parts["free_energy"]
        print(f"  {name:<26} {objective:.4f} = {parts['nll']:.4f} + {sharpening:.4f} + {share:.4f}")
    for name, difference in differences.items():
        change = difference["training"]["free_energy"]
        print(f"  {name:<26} {change['mean']:+.4f} ± {change['standard_error']:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--training_rows", type=int, default=600, help="training examples")
    parser.add_argument("--epochs", type=int, help=f"default: {STEPS} steps")
    parser.add_argument("--validation", action="store_true", help="score on the validation rows, not on test")
    parser.add_argument("--json", help="file to write the figures to")
    arguments = parser.parse_args()
    start = time.perf_counter()
    examples, rows = load_examples(), arguments.training_rows
    epochs = round(STEPS / math.ceil(rows / BATCH)) if arguments.epochs is None else arguments.epochs
    part = "validation" if arguments.validation else "test"
    methods = {name: dataclasses.asdict(method) for name, method in METHODS.items()}
    setup = {"training_rows": rows, "epochs": epochs, "scored_on": part, "methods": methods}
    kept, results = Kept(arguments.json, setup), {name: [] for name in METHODS}
    for seed in range(arguments.seeds):
        train, validation, test = split(examples, rows, seed)
        held_out = validation if arguments.validation else test
        for name, method in METHODS.items():
            score = functools.partial(train_and_score, method, train, held_out, epochs, seed)
            results[name].append(kept.piece(f"seed {seed}, {name}", score))
    summaries = {name: summarise(result) for name, result in results.items()}
    differences = {name: paired_difference(*(results[m] for m in pair)) for name, pair in PAIRS.items()}
    print(
        f"digits: {rows} training examples, {epochs} epochs, {len(held_out.digits)} {part} examples, "
        f"{arguments.seeds} seeds, mean ± standard error"
    )
    print_table(summaries, differences)
    print(f"  {time.perf_counter() - start:.0f} s in all")
    kept.finish(summaries=summaries, paired_differences=differences)


if __name__ == "__main__":
    main()
