"""The measurement: how sure a model is of the test text and how right it is there, and of other texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.prediction import uncertainty
from zoo.uncertainty.judgements import at_temperature, calibration, likelihood, mean
from zoo.uncertainty.records import Records
from zoo.uncertainty.scorers import Progress, Scorer
from zoo.uncertainty.signals import WINDOW_SIGNALS, WORD_SIGNALS, over_windows, unknown_windows
from zoo.uncertainty.signals import window_signals as windows_of
from zoo.uncertainty.signals import word_signals as words_of
from zoo.uncertainty.streams import TEST, Stream

HISTOGRAM_BINS = 40


def measure(
    scorer: Scorer,
    streams: Mapping[str, Stream],
    vocabulary_size: int,
    window: int = 35,
    bins: int = 15,
    progress: Callable[[str], Progress] = lambda label: iter,
    valid: Stream | None = None,
    keep: Callable[[str, Records], None] = lambda name, records: None,
) -> dict[str, Any]:
    """All figures of one model.

    Args:
      scorer: the model.
      streams: the streams that `make_streams` makes, "test" among them.
      vocabulary_size: the number of words the model knows.
      window: the number of consecutive predictions whose mean uncertainty tells a text from the test text.
      bins: the number of bins of the calibration error.
      progress: makes what goes through the windows of the text with a label.
      valid: the validation text, which the temperature is found on; None: none is.
      keep: is given the records of each text as soon as they are there.

    Returns:
      "name", "method", "weights", "layout", "temperature", and in "streams" by the name of each text its
      figures, entropies in nats per word. What a model gives no answer to is None.

    Raises:
      InputError: there is nothing of the test text; what `Scorer.score` raises.
    """
    found: dict[str, dict[str, Any] | None] = {}
    test = None
    label = f"{scorer.name}, {scorer.weights}"
    for name, stream in sorted(streams.items(), key=lambda item: item[0] != TEST):
        records = scorer.score(name, stream, progress(f"{label}: {name}"))
        if records is None:
            if name == TEST:
                raise InputError(f"{scorer.name} says nothing of the test text, which all is compared with")
            found[name] = None
            continue
        keep(name, records)
        figures = {**_entropies(records, vocabulary_size), **likelihood(records)}
        if test is None:
            test = records
            figures |= calibration(records, bins)
        else:
            figures |= contrast((records, stream), (test, streams[TEST]), window)
        found[name] = figures
    return {
        "name": scorer.name,
        "method": scorer.method,
        "weights": scorer.weights,
        "layout": scorer.layout,
        "temperature": _temperature(scorer, streams[TEST], valid, found[TEST], progress),
        "streams": found,
    }


def _temperature(
    scorer: Scorer,
    test: Stream,
    valid: Stream | None,
    before: Mapping[str, Any] | None,
    progress: Callable[[str], Progress],
) -> dict[str, Any] | None:
    """The temperature that is found on the validation text, and what it changes on the test text."""
    label = f"{scorer.name}, {scorer.weights}"
    fit = None if valid is None else scorer.fit_temperature(valid, progress(f"{label}: temperature"))
    tempered = None if fit is None else scorer.tempered(fit.temperature)
    if fit is None or tempered is None or before is None:
        return None
    records = tempered.score(TEST, test, progress(f"{label}: {TEST} at temperature {fit.temperature:.3f}"))
    return None if records is None else at_temperature(fit, records, before)


def _entropies(records: Records, vocabulary_size: int) -> dict[str, Any]:
    # Rounding can make an entropy of log V a little larger, and one of 0 a little smaller.
    edges = np.linspace(0.0, math.log(vocabulary_size), HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(np.clip(records.entropy, edges[0], edges[-1]), edges)
    return {
        "predictions": len(records),
        "entropy": mean(records.entropy),
        "aleatoric": mean(records.aleatoric),
        "epistemic": mean(records.epistemic),
        "reverse_information": mean(records.reverse_information),
        "pairwise_kl": mean(records.pairwise_kl),
        "entropy_histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def contrast(other: tuple[Records, Stream], test: tuple[Records, Stream], window: int = 35) -> dict[str, Any]:
    """Contrasts a text with the test text: the entropy gap, and how well signals tell the two apart.

    The gap (Fortunato et al., 2017, eq. 20) is the difference of mean entropies; its interval holds 95 % of
    the bootstrap's draws of windows. AUROC is the chance that the model is less sure of a word, or a window,
    of this text than of one of the test text; FPR95 the share of the test text's that seem as strange as
    the 95 % strangest of this text's. "known" has the AUROC without the windows that hold unknown words, and
    "unknown" the AUROC of the number of unknown words alone.

    Args:
      other: the records of the text, and the text.
      test: those of the test text.
      window: the number of consecutive predictions in a window.
    """
    (records, stream), (of_test, test_stream) = other, test
    words = words_of(records), words_of(of_test)
    windows = windows_of(records, window), windows_of(of_test, window)
    entropies = [over_windows(values, window) for values in (records.entropy, of_test.entropy)]
    interval = None
    if min(map(len, entropies)) > 1:
        interval = list(
            uncertainty.bootstrap_interval(
                lambda one, two: float(np.mean(one) - np.mean(two)), *entropies, paired=False
            )
        )
    return {
        "entropy_gap": float(np.mean(records.entropy)) - float(np.mean(of_test.entropy)),
        "entropy_gap_95": interval,
        **{
            name: {
                "word": _of_signals(WORD_SIGNALS, words, score),
                "window": _of_signals(WINDOW_SIGNALS, windows, score),
            }
            for name, score in (("auroc", uncertainty.auroc), ("fpr95", uncertainty.false_positive_rate))
        },
        **_without_unknown(windows, (stream, test_stream), window),
    }


_Signals = Mapping[str, np.ndarray]


def _of_signals(
    names: tuple[str, ...],
    signals: tuple[_Signals, _Signals],
    score: Callable[[np.ndarray, np.ndarray], float],
) -> dict[str, float | None]:
    other, test = signals
    return {
        name: score(other[name], test[name]) if name in other and name in test else None for name in names
    }


def _without_unknown(
    windows: tuple[_Signals, _Signals], streams: tuple[Stream, Stream], window: int
) -> dict[str, Any]:
    """AUROC by the number of unknown words, and of signals in windows that have none."""
    masks = [stream.is_unknown for stream in streams]
    if masks[0] is None or masks[1] is None:
        return {"unknown": None, "known": None}
    counts = [unknown_windows(mask, window) for mask in masks if mask is not None]
    kept = [count == 0 for count in counts]
    found: dict[str, Any] = {"windows": [int(np.sum(chosen)) for chosen in kept], "auroc": None}
    if all(found["windows"]):
        chosen = [
            {name: values[rows] for name, values in signals.items()}
            for signals, rows in zip(windows, kept, strict=True)
        ]
        found["auroc"] = _of_signals(WINDOW_SIGNALS, (chosen[0], chosen[1]), uncertainty.auroc)
    return {"unknown": uncertainty.auroc(*counts), "known": found}
