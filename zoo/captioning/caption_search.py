"""Captions of images, and how sure the model is of each word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, InputError, noise
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction.draws import Draws, given_draws
from tfp_bayesrnn.prediction.uncertainty import TargetScores
from zoo.data.captions import END, PAD, SPECIAL_WORDS, START, UNK, Caption
from zoo.data.vocabulary import Vocabulary
from zoo.decoding.beam_search import beam_search, sequences
from zoo.decoding.sampling import greedy, sample
from zoo.decoding.sequences import State, Step, averaged_step

FORBIDDEN = (PAD, START, UNK)
"""What no caption has; that unknown words are never said is a choice of ours."""


def check_beam(beam: int, vocabulary: Vocabulary, max_words: int) -> None:
    """Checks that there are as many captions as beams, so that an error comes before a model is trained.

    Raises:
      InputError: there are fewer.
    """
    words = len(vocabulary) - len(SPECIAL_WORDS)
    count = sequences(words, max_words + 1, may_end=True, enough=beam) if words else 0
    if count < beam:
        raise InputError(
            f"evaluate.beam={beam} is not accepted: it must be at most {max(count, 1)}, as many as there are "
            f"sequences of up to {max_words + 1} words out of {words}"
        )


class Captions(NamedTuple):
    """Captions of B images; L = `max_words` + 1."""

    words: list[Caption]
    log_probs: np.ndarray  # [B], for all words and the end, under the model that chose them.
    of_words: TargetScores  # [B, L], NumPy arrays for every word and the end.
    lengths: np.ndarray  # [B], the number of words, plus the end where it came.

    def uncertainty(self, name: str = "entropy") -> np.ndarray:
        """The mean over a caption's words of "entropy" or "mutual_information", nats per word, [B]."""
        return getattr(self.of_words, name).sum(axis=1) / np.maximum(self.lengths, 1)

    @classmethod
    def joined(cls, parts: Sequence[Captions]) -> Captions:
        """The captions of all parts, one after the other."""
        return cls(
            [words for part in parts for words in part.words],
            np.concatenate([part.log_probs for part in parts]),
            TargetScores(
                *(np.concatenate(arrays) for arrays in zip(*(part.of_words for part in parts), strict=True))
            ),
            np.concatenate([part.lengths for part in parts]),
        )

    def of(self, places: Sequence[int]) -> Captions:
        """The captions of the images at these places."""
        places = list(places)
        of_words = TargetScores(*(value[places] for value in self.of_words))
        words = [self.words[place] for place in places]
        return Captions(words, self.log_probs[places], of_words, self.lengths[places])


class Captioner:
    """Captions images under the posterior mean, or the average over draws of the posterior."""

    def __init__(
        self,
        model: BayesianModel,
        vocabulary: Vocabulary,
        max_words: int,
        samples: int = 0,
        seed: int = 0,
        beam: int = 3,
        length_penalty: float = 0.0,
        sampling: Mapping[str, Any] | None = None,
    ):
        """Builds the captioner.

        Args:
          model: the model of a `CaptionNetwork`.
          vocabulary: the vocabulary of its words.
          max_words: the largest number of words in a caption.
          samples: the number of draws that are averaged, S, the same ones for all images; 0: the posterior
            mean. Dropout is off in both.
          seed: the seed of the draws, and of sampling.
          beam: the number of beams; 1 is the most probable word each time.
          length_penalty: the penalty of `beam_search`.
          sampling: if given, words are sampled and not searched for: arguments of `sample`.

        Raises:
          ValueError: the number of beams or samples makes no sense.
          InputError: there are fewer captions than beams.
        """
        if beam < 1 or samples < 0:
            raise ValueError(
                f"There must be a beam, and no fewer than 0 samples. Received: beam={beam}, samples={samples}"
            )
        check_beam(beam, vocabulary, max_words)
        self.model = model
        self.vocabulary = vocabulary
        self.max_words = max_words
        self.samples = samples
        self.seed = seed
        self.beam = beam
        self.length_penalty = length_penalty
        self.sampling = sampling
        self._batches = 0
        self._caption = tf.function(self._decode, autograph=False, reduce_retracing=True)

    def caption(self, inputs: Mapping[str, Any]) -> Captions:
        """The best caption found of each image: {"image": [B, S, S, 3]} or {"features": [B, F]}."""
        inputs = {name: inputs[name] for name in ("image", "features") if name in inputs}
        tokens, log_probs, of_words, sizes = self._caption(inputs, tf.constant(self._batches))
        self._batches += 1
        ids, lengths = tokens.numpy(), sizes.numpy()
        words = [tuple(self.vocabulary.decode(row[row != PAD][: self.max_words])) for row in _ended(ids)]
        return Captions(
            words, log_probs.numpy(), TargetScores(*(value.numpy() for value in of_words)), lengths
        )

    # Functions that are traced into the graph.

    def _decode(self, inputs: Any, batch: int) -> tuple[tf.Tensor, ...]:
        features = self.model.network.features(inputs)
        draws = self._draws()
        step, state = next_word(self.model.network, features, draws)
        start = tf.fill([tf.shape(features)[0]], START)
        arguments = (step, state, start, self.max_words + 1, END, FORBIDDEN)
        if self.sampling is not None:
            seed = noise.derive(noise.make_seed(self.seed), Stream.DESCRIPTION_NOISE, batch)
            found = sample(*arguments, seed=seed, **self.sampling)
        elif self.beam == 1:
            found = greedy(*arguments)
        else:
            found = beam_search(*arguments, beam_size=self.beam, length_penalty=self.length_penalty)
            found = tf.nest.map_structure(lambda value: value[:, 0], found)
        sizes = found.lengths + tf.cast(found.finished, tf.int32)
        of_words = score_words(self.model.network, features, found.tokens, sizes, draws)
        return found.tokens, found.log_probs, of_words, sizes

    def _draws(self) -> Draws:
        root = noise.derive(noise.make_seed(self.seed), Stream.DESCRIPTION_DRAWS)
        return given_draws(self.model.posterior, self.samples, root)


def _ended(ids: np.ndarray) -> np.ndarray:
    """Ids [B, L] with the end token padded over."""
    return np.where(ids == END, PAD, ids)


def next_word(network: keras.Model, features: tf.Tensor, draws: Draws) -> tuple[Step, State]:
    """The model of the next word as `zoo.decoding.sequences` wants it, averaged over draws: (step, state).

    Every draw has an LSTM state of its own, so each of them stands for one network that reads the words.
    """
    step = averaged_step(lambda draw, words, state: draw.run(network.decoder.run, words, state), draws)
    return step, draws.start(lambda draw: draw.run(network.start, features))


def score_words(
    network: keras.Model, features: tf.Tensor, words: tf.Tensor, sizes: tf.Tensor, draws: Draws
) -> TargetScores:
    """Scores given words [B, T], of which the first `sizes` [B] of a row count, read one after the other."""
    words = tf.cast(words, tf.int32)
    before = tf.concat([tf.fill([tf.shape(words)[0], 1], START), words[:, :-1]], axis=1)

    def run(draw: Draw, state: Any) -> tuple[tf.Tensor, Any]:
        logits, _ = draw.run(lambda: network.decoder.run(before, network.start(features)))
        return logits, state

    scores, _ = draws.score(run, (), words)
    return scores.of_first(sizes)
