"""Text from a language model: continuations of prompts, and how sure the model is of each word.

Dimensions: P prompts, C continuations of each, L words of a continuation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, noise
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction.draws import Draws, FreshDraws, GivenDraws, mean_draw
from tfp_bayesrnn.prediction.uncertainty import TargetScores
from zoo.data.vocabulary import EOS, Vocabulary
from zoo.decoding.beam_search import beam_search
from zoo.decoding.sampling import greedy, sample
from zoo.decoding.sequences import Decoded
from zoo.language_model.prompts import Prompt, as_text, encode_prompt
from zoo.language_model.reading import prime, score_words

# The number of probabilities scored at a time, so that their memory does not grow with the rows.
_SCORED_AT_ONCE = 2**26


@dataclass(frozen=True, eq=False)
class Continuation:
    """A continuation of a prompt, and what the model thinks of each of its words.

    Args:
      prompt: the words that were read.
      words: those that follow, [L], `<eos>` among them.
      finished: whether it ends because `<eos>` came where that ends it.
      log_probs: each word's log-probability, nats, [L], under the average over all draws.
      own_log_probs: the same under the weights that the word was generated with: other ones where
        each continuation has a draw of its own.
      entropies: the entropy of the distribution of each word, nats, [L]: of the average over all draws.
      mutual_information: that of word and weights, for each word, nats, [L]; 0 with one set of weights.
    """

    prompt: tuple[str, ...]
    words: tuple[str, ...]
    finished: bool
    log_probs: np.ndarray
    own_log_probs: np.ndarray
    entropies: np.ndarray
    mutual_information: np.ndarray

    @property
    def text(self) -> str:
        """The words that follow the prompt, as `as_text` writes them."""
        return as_text(self.words)


class Generator:
    """Continues prompts under the posterior mean, an average over draws, or a draw for each continuation.

    The result is a function of the model's variables, the arguments and the seed alone.

    >>> generator = Generator(model, vocabulary, max_words=20, sampling={"temperature": 0.8})
    >>> [[continuation]] = generator.generate(["the company said"])
    >>> print(continuation.text)
    """

    def __init__(
        self,
        model: BayesianModel,
        vocabulary: Vocabulary,
        max_words: int = 20,
        samples: int = 0,
        draw_per_continuation: bool = False,
        seed: int = 0,
        beam: int = 1,
        length_penalty: float = 0.0,
        sampling: Mapping[str, Any] | None = None,
        end_at_eos: bool = False,
        forbidden: Sequence[str] = (),
    ):
        """Builds the generator.

        Args:
          model: the model, of a network that `prime` takes.
          vocabulary: the vocabulary of its words.
          max_words: the largest number of words in a continuation, L; `<eos>` is one.
          samples: the number of draws that are averaged, the same ones for all words; 0: the posterior mean.
            Dropout is off in both.
          draw_per_continuation: whether every continuation has a draw of its own, which it is generated with
            from its first word to its last; the first continuations of all prompts share the first draw, and
            so on. All are scored under the average of all these draws.
          seed: the seed of the draws, and of sampling.
          beam: the number of beams; 1 is the most probable word each time.
          length_penalty: the penalty of `beam_search`.
          sampling: if given, words are sampled and not searched for: arguments of `sample`.
          end_at_eos: whether `<eos>` ends a continuation.
          forbidden: words that are never generated, such as `<unk>`.

        Raises:
          ValueError: a number makes no sense, or arguments exclude each other.
          InputError: a forbidden word is not in the vocabulary, or `<eos>` is not and should end.
        """
        if max_words < 1 or samples < 0 or beam < 1:
            raise ValueError(
                "There must be at least one word and one beam, and no fewer than 0 samples. "
                f"Received: max_words={max_words}, beam={beam}, samples={samples}"
            )
        if samples and draw_per_continuation:
            raise ValueError(
                "Either the draws are averaged or each continuation has one. "
                f"Received: samples={samples}, draw_per_continuation={draw_per_continuation}"
            )
        if sampling is not None and beam > 1:
            raise ValueError(f"Words are sampled or searched for. Received: beam={beam}, sampling={sampling}")
        self.model = model
        self.vocabulary = vocabulary
        self.max_words = max_words
        self.samples = samples
        self.draw_per_continuation = draw_per_continuation
        self.seed = seed
        self.beam = beam
        self.length_penalty = length_penalty
        self.sampling = sampling
        self.end_id = vocabulary.id(EOS) if end_at_eos else None
        self.forbidden = tuple(vocabulary.id(word) for word in forbidden)
        of_prompts = (tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32))
        number = tf.TensorSpec([], tf.int32)
        self._decode = tf.function(
            self._decoded, (*of_prompts, number, number, tf.TensorSpec([2], tf.int32)), autograph=False
        )
        self._score = tf.function(self._scored, (*of_prompts, *of_prompts, number), autograph=False)

    def generate(
        self, prompts: Sequence[Prompt], continuations: int = 1, stream: int = 0
    ) -> list[list[Continuation]]:
        """C continuations of each prompt: in the order they were sampled in, or the most probable first.

        Args:
          prompts: texts, or ids of words. A prompt of no words is one of `<eos>`: a sentence begins.
          continuations: C, their number. Without sampling and without a draw each, at most as many as beams.
          stream: the number of the stream of noise that words are sampled with; streams are independent.

        Raises:
          InputError: a prompt cannot be read: see `encode_prompt`.
          ValueError: there cannot be that number of continuations.
        """
        differ = self.sampling is not None or self.draw_per_continuation
        if continuations < 1 or (continuations > self.beam and not differ):
            raise ValueError(
                "There must be a continuation, and no more than beams where they are searched for. "
                f"Received: continuations={continuations}, beam={self.beam}"
            )
        if not prompts:
            return []
        encoded = [encode_prompt(self.vocabulary, prompt) for prompt in prompts]
        lengths = np.array([len(ids) for ids in encoded], np.int32)
        padded = np.zeros([len(encoded), lengths.max()], np.int32)
        for row, ids in enumerate(encoded):
            padded[row, : len(ids)] = ids

        seed = noise.derive(noise.make_seed(self.seed), Stream.CONTINUATION_NOISE, stream)
        if self.draw_per_continuation:
            parts = [
                self._decode(padded, lengths, index, 1, noise.derive(seed, index))
                for index in range(continuations)
            ]
            # The best sequence under each draw.
            found = Decoded(
                *(np.stack([part[:, 0] for part in column], axis=1) for column in zip(*parts, strict=True))
            )
        else:
            found = self._decode(padded, lengths, 0, continuations, seed)
            found = Decoded(*(value.numpy()[:, :continuations] for value in found))
        scores = self._scores(padded, lengths, found)
        return [
            [self._continuation(ids, found, scores, (row, place)) for place in range(continuations)]
            for row, ids in enumerate(encoded)
        ]

    def draw(self, number: int | tf.Tensor) -> Draw:
        """The draw of that number that words are generated and scored with; the mean where none are drawn."""
        if self._is_mean:
            return self.model.posterior.mean()
        return self.model.posterior.sample(noise.derive(self._root(), number)).without_dropout()

    @property
    def _is_mean(self) -> bool:
        return not self.samples and not self.draw_per_continuation

    def _root(self) -> tf.Tensor:
        return noise.derive(noise.make_seed(self.seed), Stream.CONTINUATION_DRAWS)

    def _continuation(self, prompt: np.ndarray, found: Any, scores: TargetScores, place: Any) -> Continuation:
        size = found.lengths[place] + found.finished[place]
        values = [values[place][:size] for values in (found.token_log_probs, *scores)]
        return Continuation(
            prompt=tuple(self.vocabulary.decode(prompt)),
            words=tuple(self.vocabulary.decode(found.tokens[place][:size])),
            finished=bool(found.finished[place]),
            own_log_probs=values[0],
            log_probs=values[1],
            entropies=values[2],
            mutual_information=values[3],
        )

    def _scores(self, prompt: np.ndarray, lengths: np.ndarray, found: Decoded) -> TargetScores:
        """The scores of what was found, [P, C, L]."""
        shape = found.tokens.shape
        draws = shape[1] if self.draw_per_continuation else max(self.samples, 1)
        rows = np.repeat(np.arange(shape[0]), shape[1])
        words = found.tokens.reshape(-1, shape[2])
        sizes = (found.lengths + found.finished).reshape(-1)
        at_once = max(_SCORED_AT_ONCE // (shape[2] * len(self.vocabulary)), 1)
        parts = []
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            arguments = (prompt[rows[part]], lengths[rows[part]], words[part], sizes[part], draws)
            parts.append([value.numpy() for value in self._score(*arguments)])
        return TargetScores(*(np.concatenate(column).reshape(shape) for column in zip(*parts, strict=True)))

    # Functions that are traced into the graph.

    def _decoded(self, prompt: Any, lengths: Any, index: Any, copies: int, seed: Any) -> Decoded:
        """The words after prompts, [P, copies or beams, L]; `index` is of the draw of a continuation."""
        draws = GivenDraws([self.draw(number) for number in range(self.samples)] or [self.draw(index)])
        step, state, last = prime(self.model.network, prompt, lengths, draws)
        if self.sampling is None and self.beam > 1:
            return beam_search(
                step,
                state,
                last,
                self.max_words,
                self.end_id,
                self.forbidden,
                beam_size=self.beam,
                length_penalty=self.length_penalty,
            )
        state, last = tf.nest.map_structure(lambda value: tf.repeat(value, copies, axis=0), (state, last))
        arguments = (step, state, last, self.max_words, self.end_id, self.forbidden)
        if self.sampling is None:
            found = greedy(*arguments)
        else:
            found = sample(*arguments, seed=seed, **self.sampling)
        return tf.nest.map_structure(
            lambda value: tf.reshape(value, tf.concat([[-1, copies], tf.shape(value)[1:]], axis=0)), found
        )

    def _scored(self, prompt: Any, lengths: Any, words: Any, sizes: Any, draws: Draws) -> TargetScores:
        posterior = self.model.posterior
        of = mean_draw(posterior) if self._is_mean else FreshDraws(posterior, draws, self._root())
        return score_words(self.model.network, prompt, lengths, words, sizes, of)
