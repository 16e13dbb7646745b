"""A passage of test text, each word on a shade that says how unsure the model was before it came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_bayesrnn import noise
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.prediction.draws import FreshDraws, mean_draw
from tfp_bayesrnn.prediction.uncertainty import TargetScores
from zoo.data.vocabulary import EOS
from zoo.drawing.scale import highest_for
from zoo.language_model.configuration import LanguageModelConfig
from zoo.language_model.model import load_data, restorable
from zoo.language_model.reading import score_words
from zoo.page.computed import computed_section
from zoo.page.contents import Contents
from zoo.page.markup import Markup, details, number, paragraph, table, tag
from zoo.page.page import Section
from zoo.page.shading import Measure, described, legend, shaded
from zoo.runs.restored import restored
from zoo.runs.run_data import check_data

CONTEXT, WORDS = 100, 200
"""Words that are read before the passage at least, and of the passage; both then go on to a line's end."""

_TO_LINE_END = 80  # But at most by so many words.
_LINE_END = "\N{RETURN SYMBOL}"


class Passage(NamedTuple):
    """Consecutive words of a text and what the model thought of them."""

    read_before: int
    words: Sequence[str]
    log_probs: np.ndarray  # [L], nats.
    entropies: np.ndarray  # [L], nats: total.
    mutual_information: np.ndarray | None  # [L], nats: epistemic; None of one set of weights.


def passage(contents: Contents[LanguageModelConfig]) -> Section:
    """The section of the passage, or of why there is none."""
    return computed_section(contents, "passage", "A passage of the test text", score_passage, shown)


def bounds(tokens: np.ndarray, end_of_line: int | None) -> tuple[int, int]:
    """Returns the bounds of the passage in a text: `tokens[start:end]`, with at least a word before it.

    Args:
      tokens: the text, ids [N].
      end_of_line: the id of the word that ends lines, where there is one.

    Raises:
      InputError: the text has fewer than two words.
    """
    if len(tokens) < 2:
        raise InputError(f"the test text has {len(tokens)} words, and the first is never predicted")

    def to_line_end(place: int) -> int:
        """Behind the first end of a line from the word before `place` on, if it is near; else `place`."""
        ends = np.flatnonzero(tokens[place - 1 : place + _TO_LINE_END] == end_of_line)
        return place + int(ends[0]) if end_of_line is not None and len(ends) else place

    start = to_line_end(CONTEXT) if len(tokens) >= CONTEXT + _TO_LINE_END + WORDS else 1
    end = start + WORDS
    return start, to_line_end(end) if end < len(tokens) else len(tokens)


def score_passage(contents: Contents[LanguageModelConfig]) -> Passage:
    """Reads the test text up to the passage's end, with the best checkpoint.

    Raises:
      InputError: the data cannot be read or are not those of the run, or it has no checkpoint yet.
    """
    config = contents.config
    model, vocabulary, _ = restored(restorable, config, contents.directory)
    corpus = load_data(config, contents.found_data_dir)
    check_data(contents.directory, corpus)
    start, end = bounds(corpus.test, vocabulary.id(EOS) if EOS in vocabulary else None)
    root = noise.derive(noise.make_seed(config.seed), noise.Stream.EVALUATION_DRAWS)

    samples, posterior = contents.samples, model.posterior

    @tf.function(autograph=False)
    def score(before: tf.Tensor, words: tf.Tensor) -> TargetScores:
        lengths, sizes = ([tf.shape(ids)[1]] for ids in (before, words))
        draws = FreshDraws(posterior, samples, root) if samples else mean_draw(posterior)
        return score_words(model.network, before, lengths, words, sizes, draws)

    before, words = (tf.constant(part[np.newaxis]) for part in (corpus.test[:start], corpus.test[start:end]))
    scores = [values.numpy()[0].astype(np.float64) for values in score(before, words)]
    return Passage(
        start,
        vocabulary.decode(corpus.test[start:end]),
        scores[0],
        scores[1],
        scores[2] if contents.samples > 1 else None,
    )


def shown(found: Passage, weights: str) -> list[Any]:
    """The passage as the section has it.

    Args:
      found: the passage.
      weights: the weights that it is judged by, in words.
    """
    epistemic = found.mutual_information
    values = found.entropies if epistemic is None else epistemic
    name = "entropy" if epistemic is None else "mutual information"
    measure = Measure(name, highest_for(values))
    what = (
        "the entropy of its prediction: the whole uncertainty, of which one set of weights cannot say how "
        "much is its own"
        if epistemic is None
        else "its mutual information with the weights: the epistemic part of the uncertainty, which more "
        "training text could take away"
    )
    means = f"entropy {number(float(np.mean(found.entropies)), 3)}"
    if epistemic is not None:
        means += f", mutual information {number(float(np.mean(epistemic)), 4)}"
    nll = -float(np.mean(found.log_probs))
    means += f", NLL {number(nll, 3)} (perplexity {number(math.exp(min(nll, 700.0)), 1)})"
    ends = " \N{RETURN SYMBOL} stands for the end of a line." if EOS in found.words else ""
    return [
        paragraph(
            f"{len(found.words)} words of the test text, read by {weights} after the {found.read_before} "
            f"words before them. A word's shade is {what}.{ends}"
        ),
        legend(measure),
        tag("p", _words(found, measure.highest), class_="words passage"),
        paragraph(f"Means, in nats per word: {means}."),
        details("The numbers of every word", _numbers(found)),
    ]


def _words(found: Passage, highest: float) -> list[Markup | str]:
    parts: list[Markup | str] = []
    values = found.entropies if found.mutual_information is None else found.mutual_information
    for place, word in enumerate(found.words):
        if place and found.words[place - 1] != EOS:  # The sign of a line's end stays on the line.
            parts.append("\N{NO-BREAK SPACE}" if word == EOS else " ")
        mutual = None if found.mutual_information is None else float(found.mutual_information[place])
        title = described(word, float(found.log_probs[place]), float(found.entropies[place]), mutual)
        is_end = word == EOS
        parts.append(shaded(_LINE_END if is_end else word, float(values[place]), highest, title))
        if is_end:
            parts.append(tag("br"))
    return parts


def _numbers(found: Passage) -> Markup:
    columns = {"log-probability": found.log_probs, "entropy": found.entropies}
    if found.mutual_information is not None:
        columns["mutual information"] = found.mutual_information
    rows = [
        [word, *(number(float(values[place]), 3) for values in columns.values())]
        for place, word in enumerate(found.words)
    ]
    return table("The words of the passage, in nats", ["word", *columns], rows)
