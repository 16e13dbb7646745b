"""How fast an exported language model scores, against the export of Keras's own deterministic model.

    python -m benchmarks.export_throughput                       # PTB small, batches of 1 and 64
    python -m benchmarks.export_throughput --preset=demo_bbb     # quicker

All are SavedModels that have been loaded again, side by side in this process. Keras's is Embedding, LSTM
and Dense layers of the same sizes, exported by `keras.Model.export`; it gives logits, which whoever calls
it still has to make probabilities of. Ours are `score`, which gives log-probabilities and entropies of the
words that came, of the posterior mean, dense and pruned, and `score_mc` with samples, drawn in each call or
kept by `load_draws` before. Prints words a
second, and seconds as multiples of Keras's, repetition by repetition: median, lowest and highest.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

import zoo
from benchmarks.kept import Kept
from benchmarks.speed import machine
from benchmarks.timing import measure, spread, stopwatch
from tfp_bayesrnn.export.saved_model import ExportedPosterior, write_saved_model
from zoo.data.vocabulary import EOS, Vocabulary
from zoo.language_model.signatures import LanguageModelExport

BATCHES, UNROLL = (1, 64), 35
KERAS = "Keras, deterministic"


def keras_model(words: int, units: int, embedding_units: int, layers: int) -> keras.Model:
    """ids [B, T] to logits [B, T, V]."""
    recurrent = [keras.layers.LSTM(units, return_sequences=True) for _ in range(layers)]
    inputs = keras.Input((None,), dtype="int32")
    outputs = keras.layers.Embedding(words, embedding_units)(inputs)
    for layer in [*recurrent, keras.layers.Dense(words)]:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def exports(preset: str, folder: pathlib.Path) -> tuple[dict[str, object], int]:
    """Name -> a model that has been exported and loaded; words of the vocabulary."""
    config, model = zoo.get_preset(preset), zoo.from_preset(preset)
    words = model.posterior.weights[0].shape[0]
    settings = config.model
    own = keras_model(words, settings.units, settings.embedding_units, settings.layers)
    own.export(str(folder / "keras"), verbose=False)
    vocabulary = Vocabulary([EOS, *(f"word{number}" for number in range(1, words))])
    variants = {"ours": {}, "ours, pruned": {"prune": 0.8, "format": "float16"}}
    for name, arguments in variants.items():
        with tempfile.TemporaryDirectory() as assets:
            exported = ExportedPosterior(model.network, **arguments)
            task = LanguageModelExport(model.network, exported, vocabulary, assets)
            write_saved_model(folder / name, task.module, task.signatures())
    return {name: tf.saved_model.load(str(folder / name)) for name in ("keras", *variants)}, words


def calls(loaded: dict[str, object], words: int, batch: int, samples: int) -> dict[str, object]:
    """Name -> a call that scores one batch and waits for the result."""
    ids = tf.constant(np.random.default_rng(0).integers(0, words, [batch, UNROLL]), tf.int32)
    inputs = {"ids": ids, "lengths": tf.fill([batch], UNROLL)}
    sampled = {"num_samples": tf.constant(samples), "seed": tf.constant(0)}
    serve = loaded["keras"].serve
    score, pruned = (loaded[name].signatures["score"] for name in ("ours", "ours, pruned"))
    score_mc, load_draws = (loaded["ours"].signatures[name] for name in ("score_mc", "load_draws"))
    kept = {"num_samples": tf.constant(samples), "seed": tf.constant(1)}
    load_draws(**kept)
    return {
        KERAS: lambda: serve(ids).numpy(),
        "score": lambda: score(**inputs)["log_probs"].numpy(),
        "score, 80 % pruned, float16": lambda: pruned(**inputs)["log_probs"].numpy(),
        f"score_mc, {samples} samples": lambda: score_mc(**inputs, **sampled)["log_probs"].numpy(),
        "the same, of load_draws": lambda: score_mc(**inputs, **kept)["log_probs"].numpy(),
    }


def rows(meters: dict, batch: int, repetitions: int) -> list[dict]:
    """What each contestant scores in a second, and its seconds as multiples of Keras's."""
    figures = measure(meters, repetitions, calls=20 if batch == 1 else 3)
    found = []
    for name in meters:
        speed = batch * UNROLL / spread(figures.ratios(name, None))["median"]
        ratio = spread(figures.ratios(name, KERAS))
        found.append({"batch": batch, "work": name, "words_per_second": speed, "ratio": ratio})
    return found


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="ptb_small_bbb")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--json", help="file that the figures of each batch are added to")
    arguments = parser.parse_args()
    settings = {name: value for name, value in vars(arguments).items() if name != "json"}
    kept = Kept(arguments.json, {**settings, "machine": machine()})
    with tempfile.TemporaryDirectory() as folder:
        loaded, words = exports(arguments.preset, pathlib.Path(folder))
        for batch in BATCHES:
            contestants = calls(loaded, words, batch, arguments.samples)
            meters = {name: stopwatch(call) for name, call in contestants.items()}
            found = kept.piece(
                f"batch {batch}", functools.partial(rows, meters, batch, arguments.repetitions)
            )
            for row in found:
                ratio = row["ratio"]
                print(
                    f"batch {batch:>2}  {row['work']:<28} {row['words_per_second']:>9.0f} words/s  "
                    f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f}) times Keras's seconds",
                    flush=True,
                )


if __name__ == "__main__":
    main()
