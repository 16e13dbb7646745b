"""Selective generation: whether continuations that a model is sure of are better than those it is unsure of.

Every model continues the beginnings of sentences, greedily and by sampling. How bad a continuation is, the
truth says where the language is known exactly (1 where no sentence goes on like this), else another model,
the judge: the nats of its words under that one. To keep the surest ones only should leave the better ones.
Dimensions: S samples of the weights, P prompts, K words of a prompt, L words of a continuation at most, V
words of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.prediction import uncertainty
from zoo.data.vocabulary import EOS, UNK, Vocabulary
from zoo.uncertainty.judgements import selection
from zoo.uncertainty.records import Records, make_records
from zoo.uncertainty.scorers import Predictor
from zoo.uncertainty.signals import word_signals

DECODINGS = ("greedy", "sampled")
MAX_WORDS = 30
PROMPT_WORDS = 3


class Texts(NamedTuple):
    """Continuations, and what the model thought of each of their words."""

    words: np.ndarray  # Int32 [P, L]; beyond its end a row has anything.
    sizes: np.ndarray  # Int [P]: the number of words of each, `<eos>` among them.
    records: list[Records]  # Of the words of each.


@dataclass(frozen=True)
class Generation:
    """The prompts, and how continuations of them are judged.

    Attributes:
      prompts: the prompts, int32 [P, K + 1]; the first word of each is the one before the sentence.
      vocabulary: the vocabulary.
      readable: how many words of a sentence, from the first on, some sentence of the language begins with;
        None where the language is not known so well.
      judge: the model by which continuations are judged where it is not.
      seed: the seed of the sampling, with the same noise for all models.
      at_once: the number of prompts that are continued at a time.
    """

    prompts: np.ndarray
    vocabulary: Vocabulary
    readable: Callable[[Sequence[str]], int] | None = None
    judge: Predictor | None = None
    seed: int = 0
    at_once: int = 200

    def figures(self, predictor: Predictor) -> dict[str, Any]:
        """By the name of the decoding, what it buys to keep only the continuations that a model is sure of.

        "greedy_nll", the nats of the greedy continuation of the same prompt, is among the signals always.
        """
        texts = {decoding: self.continued(predictor, decoding) for decoding in DECODINGS}
        greedy = [_nats(records) for records in texts["greedy"].records]
        found = {}
        for decoding, text in texts.items():
            loss = self.losses(text)
            signals = {**_signals(text.records), "greedy_nll": np.array(greedy)}
            found[decoding] = {
                "prompts": len(self.prompts),
                "loss": "ungrammatical" if self.readable is not None else "nats a word under the judge",
                "words": float(np.mean(text.sizes)),
                **selection(signals, loss),
            }
        return found

    def losses(self, texts: Texts) -> np.ndarray:
        """How bad each continuation is, float64 [P]."""
        if self.readable is not None:
            return np.array(
                [
                    self.readable(sentence) < len(sentence)
                    for prompt, words, size in zip(self.prompts, texts.words, texts.sizes, strict=True)
                    for sentence in [self.vocabulary.decode([*prompt[1:], *words[:size]])]
                ],
                np.float64,
            )
        if self.judge is None:
            raise ValueError("Without a language that is known there must be a judge. Received: judge=None")
        nats = np.concatenate([self._judged(self.judge, texts, rows) for rows in self._parts()])
        mask = np.arange(nats.shape[1]) < texts.sizes[:, np.newaxis]
        return np.sum(np.where(mask, nats, 0.0), axis=1) / texts.sizes

    def continued(self, predictor: Predictor, decoding: str) -> Texts:
        """The continuations by a model, one of each prompt.

        Args:
          predictor: the model.
          decoding: one of `DECODINGS`.
        """
        found = [self._continued(predictor, decoding, rows) for rows in self._parts()]
        return Texts(
            np.concatenate([part.words for part in found]),
            np.concatenate([part.sizes for part in found]),
            [records for part in found for records in part.records],
        )

    def _parts(self) -> list[slice]:
        """The prompts in parts of about equal size."""
        size = -(-len(self.prompts) // -(-len(self.prompts) // self.at_once))
        return [slice(start, start + size) for start in range(0, len(self.prompts), size)]

    def _continued(self, predictor: Predictor, decoding: str, rows: slice) -> Texts:
        last, state = _read(predictor, self.prompts[rows])
        count, is_sampled = len(self.prompts[rows]), decoding == "sampled"
        barred = np.zeros(len(self.vocabulary), np.float32)
        if UNK in self.vocabulary:
            barred[self.vocabulary.id(UNK)] = -np.inf
        end = self.vocabulary.id(EOS) if EOS in self.vocabulary else -1
        generator = np.random.default_rng([self.seed, rows.start])
        is_open, sizes = np.ones(count, bool), np.zeros(count, int)
        words, fields = [], []
        for _ in range(MAX_WORDS):
            scores = tf.reduce_logsumexp(last, axis=0).numpy() + barred
            if is_sampled:
                scores += generator.gumbel(size=scores.shape)
            chosen = np.argmax(scores, axis=1).astype(np.int32)
            words.append(chosen)
            fields.append([None if one is None else one.numpy() for one in make_records(last, chosen)])
            sizes += is_open
            is_open &= chosen != end
            if not is_open.any():
                break
            log_probs, state = predictor(tf.constant(chosen[:, np.newaxis]), state)
            last = log_probs[:, :, 0]
        padded = np.zeros([count, MAX_WORDS], np.int32)
        padded[:, : len(words)] = np.stack(words, axis=1)
        return Texts(padded, sizes, _of_rows(fields, sizes))

    def _judged(self, judge: Predictor, texts: Texts, rows: slice) -> np.ndarray:
        """The nats of each word under the judge, [rows, L]."""
        last, state = _read(judge, self.prompts[rows])
        found = []
        for step in range(MAX_WORDS):
            words = tf.constant(texts.words[rows, step])
            average = tf.reduce_logsumexp(last, axis=0) - math.log(last.shape[0])
            found.append(-tf.gather(average, words, batch_dims=1).numpy())
            log_probs, state = judge(words[:, tf.newaxis], state)
            last = log_probs[:, :, 0]
        return np.stack(found, axis=1).astype(np.float64)


def make_prompts(tokens: np.ndarray, vocabulary: Vocabulary, count: int) -> np.ndarray:
    """The beginnings of sentences of a text, int32 [P, 1 + 3]: the word before a sentence and its first ones.

    Args:
      tokens: the text, [N].
      vocabulary: its vocabulary; without `<eos>` there are no sentences, and stretches of the text are taken.
      count: the number of prompts, P; fewer where the text has not that many. They are spread over the text.

    Raises:
      InputError: the text has no sentence of more words than a prompt.
    """
    tokens = np.asarray(tokens, np.int32)
    starts = np.arange(0, len(tokens) - PROMPT_WORDS, PROMPT_WORDS + 1)
    if EOS in vocabulary:
        ends = tokens == vocabulary.id(EOS)
        starts = np.flatnonzero(ends)
        starts = starts[starts + PROMPT_WORDS + 1 < len(tokens)]
        inside = np.stack([ends[starts + step] for step in range(1, PROMPT_WORDS + 1)])
        starts = starts[~inside.any(axis=0)]
    if not len(starts):
        raise InputError(f"the test text has no sentence of more than {PROMPT_WORDS} words to be continued")
    chosen = starts[np.unique(np.linspace(0, len(starts) - 1, min(count, len(starts))).round().astype(int))]
    return tokens[chosen[:, np.newaxis] + np.arange(PROMPT_WORDS + 1)]


def _read(predictor: Predictor, prompts: np.ndarray) -> tuple[tf.Tensor, Any]:
    """The log-probabilities of the word after each prompt, [S, P, V], and the state there."""
    log_probs, state = predictor(tf.constant(prompts[:, :1]), None)
    for step in range(1, prompts.shape[1]):
        log_probs, state = predictor(tf.constant(prompts[:, step : step + 1]), state)
    return log_probs[:, :, 0], state


def _of_rows(fields: Sequence[Sequence[np.ndarray | None]], sizes: np.ndarray) -> list[Records]:
    """The records of each row, from the fields of `Records` of each step, [P] or [P, S]."""
    joined: list[Any] = [
        None if steps[0] is None else np.stack(steps, axis=1).astype(np.float64)
        for steps in zip(*fields, strict=True)
    ]
    return [
        Records(*[_first(field, row, size) for field in joined]) for row, size in enumerate(sizes.tolist())
    ]


def _first(field: Any, row: int, size: int) -> Any:
    return None if field is None else field[row, :size]


def _nats(records: Records) -> float:
    """The nats of a whole text."""
    return math.inf if records.log_prob is None else -float(np.sum(records.log_prob))


def _signals(texts: Sequence[Records]) -> Mapping[str, np.ndarray]:
    """The signals of each text, [P]: means over its words, and nats of the whole text."""
    found: dict[str, list[float]] = {}
    for records in texts:
        of_text = {name: float(np.mean(values)) for name, values in word_signals(records).items()}
        of_text["sequence_nll"] = _nats(records)
        if records.sample_log_probs is not None:
            scores = uncertainty.score_sequences(records.sample_log_probs.T)
            of_text["joint_nll"] = -float(scores.expectation_of_products) / len(records)
            of_text["joint_information"] = float(scores.reverse_information) / len(records)
        for name, value in of_text.items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}
