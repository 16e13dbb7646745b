"""The paper's figures, for the data sets that it reports on (Fortunato et al., 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from zoo.runs.settings import RunConfig

SOURCE = "Fortunato, Blundell and Vinyals, Bayesian Recurrent Neural Networks, arXiv:1704.02798"


def units(layers: int, width: int) -> str:
    """The size of a network, in words that stay on one line."""
    return f"{layers}\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}{width} units"


SMALL, MEDIUM = units(2, 200), units(2, 650)


class Published(NamedTuple):
    """A row of a published table.

    Attributes:
      model: the model that was trained.
      method: the method of `zoo.configuration.methods` that it is nearest to; empty where there is none.
      figures: perplexities by the keys of results.json; those of sharpening are upper bounds.
    """

    model: str
    method: str
    figures: Mapping[str, float]


PTB_COLUMNS = {"valid": "valid", "test": "test"} | {
    "valid_dynamic": "valid, dynamic",
    "test_dynamic": "test, dynamic",
}
PTB = (
    # Zaremba et al. (2014), whose non-regularised model is the small one.
    Published("LSTM, no regularisation", "deterministic", {"valid": 120.7, "test": 114.5}),
    Published(
        "LSTM, dropout",
        "dropout",
        {"valid": 86.2, "test": 82.1, "valid_dynamic": 79.7, "test_dynamic": 77.1},
    ),
    Published("Variational LSTM, tied masks", "variational_dropout", {"valid": 81.8, "test": 79.7}),
    Published("Variational LSTM, averaged over masks", "variational_dropout", {"test_mc": 79.0}),
    Published(
        "Bayesian RNN",
        "bbb",
        {"valid": 78.8, "test": 75.5, "valid_dynamic": 73.4, "test_dynamic": 70.7},
    ),
    Published(
        "Bayesian RNN with sharpening",
        "bbb_sharpened",
        {
            "valid_sharpened_bound": 77.8,
            "test_sharpened_bound": 74.8,
            "valid_dynamic_sharpened_bound": 72.6,
            "test_dynamic_sharpened_bound": 69.8,
        },
    ),
)
"""Perplexities on Penn Treebank, medium models."""

COCO = (
    Published("Show and Tell", "dropout", {"perplexity": 8.3, "bleu4": 28.8, "cider": 89.8}),
    Published("Bayes RNN", "bbb", {"perplexity": 8.1, "bleu4": 30.2, "cider": 96.0}),
)
"""On MSCOCO's development images; BLEU and CIDEr times 100."""

PTB_ENTROPY_GAPS = {
    ("bbb", False): "about 0.65",
    ("bbb", True): "about 0.67",
    ("dropout", False): "below 0.62",
    ("dropout", True): "below 0.58",
}
"""Entropy gaps of medium models, nats per word, by method and whether of an average (of 10 samples)."""


def of_split(row: Published, column: str) -> tuple[float, bool] | None:
    """The perplexity and whether it is an upper bound, in a column of `PTB_COLUMNS`; None: there is none."""
    for key, is_bound in ((column, False), (f"{column}_mc", False), (f"{column}_sharpened_bound", True)):
        if key in row.figures:
            return row.figures[key], is_bound
    return None


def ptb_figure(method: str, key: str) -> float | None:
    """The paper's perplexity that one of results.json stands beside, by method and key; None: there is none.

    That of a sharpened model's mean is not reported.
    """
    return next((row.figures[key] for row in PTB if row.method == method and key in row.figures), None)


def coco_figure(method: str, name: str) -> float | None:
    """The paper's score of a captioning model on COCO, by method and name; None: there is none."""
    return next((row.figures[name] for row in COCO if row.method == method and name in row.figures), None)


def ptb_differences(config: RunConfig) -> list[str]:
    """The differences of a run on Penn Treebank from the paper's, a sentence each."""
    model, train = config.model, config.train
    ours = f"{units(model.layers, model.units)}, {train.epochs} epochs"
    theirs = f"{SMALL if config.method == 'deterministic' else MEDIUM}, {_EPOCHS[config.method]} epochs"
    alike = ours == theirs
    return [
        f"This run has {ours}; the published one of the same method has {theirs}"
        + (", and what else it was trained with may differ." if alike else ": another model."),
        "The same corpus, in the same words; a run has one seed.",
    ]


def coco_differences(config: Any) -> list[str]:
    """The differences of a captioning run on COCO from the paper's, a sentence each; `config` is its own."""
    encoder, model = config.encoder, config.model
    tuned = "trained along" if encoder.trainable else "not trained along"
    return [
        f"This run has the encoder {encoder.name} ({tuned}) and {units(model.layers, model.units)}. The "
        "paper's models are built on Show and Tell: an Inception network and 512 units.",
        "The paper's figures are of MSCOCO's development images. Here the images are the test images of "
        "Karpathy's splits, and the vocabulary is another: other images and other words.",
    ]


_EPOCHS = {"deterministic": 13, "dropout": 39, "variational_dropout": 39, "bbb": 70, "bbb_sharpened": 70}
