"""The signatures of a language model as a SavedModel: scoring, the next word, generation.

Shapes: N rows, T words of a row, V words of the vocabulary, S draws. Rows are padded at the end, `lengths`
says how many words of a row count, and what is said of padding is 0 (or the empty string).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import noise
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.export.saved_model import ExportedPosterior, require
from tfp_bayesrnn.model import recurrence
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction.draws import Draws, FreshDraws, HeldDraws, check_samples, mean_draw
from tfp_bayesrnn.prediction.uncertainty import TargetScores
from zoo.data.vocabulary import EOS, Vocabulary
from zoo.decoding.sampling import sample
from zoo.decoding.sequences import averaged_step
from zoo.language_model.reading import longest, state_after
from zoo.signatures import sampling
from zoo.signatures.sampling import MAX_WORDS, Settings
from zoo.signatures.words import Words

# The number of probabilities computed at a time: longer rows are read piece by piece.
_AT_ONCE = 2**25

_IDS = tf.TensorSpec([None, None], tf.int32, "ids")
_LENGTHS = tf.TensorSpec([None], tf.int32, "lengths")
_TEXT = tf.TensorSpec([None], tf.string, "text")
_NUM_SAMPLES = tf.TensorSpec([], tf.int32, "num_samples")
_SEED = tf.TensorSpec([], tf.int32, "seed")


class LanguageModelExport:
    """The contents of a language model's SavedModel, and its signatures.

    A text begins behind an `<eos>`: that is what its first word is predicted from.

    Attributes:
      module: the module that holds the weights and the vocabulary.
    """

    def __init__(
        self,
        network: keras.Model,
        exported: ExportedPosterior,
        vocabulary: Vocabulary,
        directory: str | os.PathLike[str],
        lowercase: bool = False,
    ):
        """Builds the tables.

        Args:
          network: ids [N, T] -> logits [N, T, V], with a state as `tfp_bayesrnn.model.recurrence` takes it.
          exported: the network's weights.
          vocabulary: the vocabulary of its words.
          directory: the directory that `Words` takes.
          lowercase: whether texts are read in lower case.

        Raises:
          InputError: the vocabulary has no `<eos>`.
        """
        self.words = Words(vocabulary, directory, lowercase)
        if self.words.eos is None:
            raise InputError(f"a language model whose vocabulary has no {EOS} cannot be exported")
        self.module = tf.Module(name="language_model")
        self.module.parts, self.module.words = exported.parts, self.words
        self._posterior = exported
        template = recurrence.initial_state(network, 1)
        parts = tf.nest.flatten(template)
        self._widths = [part.shape[-1] for part in parts]

        def run(ids: tf.Tensor, *parts: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
            state = tf.nest.pack_sequence_as(template, parts)
            logits, state = recurrence.run(network, ids, state, training=False)
            return tf.cast(logits, tf.float32), tf.nest.flatten(state)

        state = [tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in parts]
        traced = exported.function(run, [tf.TensorSpec([None, None], tf.int32), *state])
        self._run = lambda draw, ids, state: traced(draw, ids, *state)
        self._zeros = lambda rows: tf.nest.flatten(recurrence.initial_state(network, rows))
        self._bodies = self._shared()

    @property
    def state_size(self) -> int:
        """The number of values in a row's state: h and c of each LSTM layer, side by side."""
        return sum(self._widths)

    def signatures(self) -> dict[str, Callable]:
        """The `tf.function` of each signature by its name, with Monte Carlo forms where there are scales."""
        state = tf.TensorSpec([None, self.state_size], tf.float32, "state")
        specs = {
            "score": (self.score, [_IDS, _LENGTHS]),
            "score_text": (self.score_text, [_TEXT]),
            "initial_state": (self.initial_state, [tf.TensorSpec([], tf.int32, "rows")]),
            "next": (self.next, [tf.TensorSpec([None], tf.int32, "tokens"), state]),
            "generate": (self.generate, [_IDS, _LENGTHS, *sampling.SPECS, _SEED]),
            "generate_text": (self.generate_text, [_TEXT, *sampling.SPECS, _SEED]),
            "tokenize": (self.tokenize, [_TEXT]),
            "detokenize": (self.detokenize, [_IDS, _LENGTHS]),
        }
        if self._posterior.has_scales:
            sampled = [_NUM_SAMPLES, _SEED]
            specs |= {
                "score_mc": (self.score_mc, [_IDS, _LENGTHS, *sampled]),
                "score_text_mc": (self.score_text_mc, [_TEXT, *sampled]),
                "load_draws": (self.load_draws, sampled),
                "generate_mc": (self.generate_mc, [_IDS, _LENGTHS, *sampling.SPECS, *sampled]),
                "generate_text_mc": (self.generate_text_mc, [_TEXT, *sampling.SPECS, *sampled]),
            }
        made = {
            name: tf.function(function, input_signature=signature, autograph=False)
            for name, (function, signature) in specs.items()
        }
        return {**made, "serving_default": made["score"]}

    def _shared(self) -> dict[str, Callable]:
        """The bodies of signatures, which are large, each once."""

        def score_mc(
            ids: tf.Tensor, lengths: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor
        ) -> dict[str, tf.Tensor]:
            return self._score(self._fresh(num_samples, seed), ids, lengths)

        def generate_mc(
            ids: tf.Tensor,
            lengths: tf.Tensor,
            settings: Settings,
            num_samples: tf.Tensor,
            seed: tf.Tensor,
        ) -> dict[str, tf.Tensor]:
            return self._generate(self._held(num_samples, seed), ids, lengths, settings, seed)

        bodies = {
            "score": lambda *inputs: self._score(mean_draw(self._posterior), *inputs),
            "score_mc": score_mc,
            "generate": lambda *inputs: self._generate(mean_draw(self._posterior), *inputs),
            "generate_mc": generate_mc,
        }
        return {name: tf.function(body, autograph=False) for name, body in bodies.items()}

    # Scoring.

    def score(self, ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        """log p of every word given those before it, and the entropy it was chosen from, nats, [N, T].

        mask, bool [N, T], says which places hold words: the first `lengths` of each row.
        """
        return self._without_information(self._bodies["score"](*self.words.check(ids, lengths, 0)))

    def score_mc(
        self, ids: tf.Tensor, lengths: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """As `score`, under the average of S draws, each held for all rows; with the mutual information."""
        ids, lengths = self.words.check(ids, lengths, 0)
        return self._bodies["score_mc"](ids, lengths, check_samples(num_samples), seed)

    def score_text(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """`score` of texts, with their words."""
        ids, lengths = self.words.encode(text)
        return self._tokenized(ids, lengths) | self._without_information(self._bodies["score"](ids, lengths))

    def score_text_mc(self, text: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """`score_mc` of texts, with their words."""
        ids, lengths = self.words.encode(text)
        scores = self._bodies["score_mc"](ids, lengths, check_samples(num_samples), seed)
        return self._tokenized(ids, lengths) | scores

    def _score(self, draws: Draws, ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        rows, steps = tf.unstack(tf.shape(ids))
        before = tf.concat([tf.fill([rows, 1], self.words.eos), ids], axis=1)[:, :steps]
        states = draws.same(self._zeros(rows))
        mask = tf.sequence_mask(lengths, steps)
        return {"mask": mask, **self._read(draws, before, ids, lengths, states)._asdict()}

    def _read(
        self, draws: Draws, before: tf.Tensor, ids: tf.Tensor, lengths: tf.Tensor, states: Any
    ) -> TargetScores:
        """Scores of ids [N, T], each read after `before` [N, T], from states; piece by piece."""
        rows, steps = tf.unstack(tf.shape(ids))
        piece = tf.maximum(_AT_ONCE // (tf.maximum(rows, 1) * self.words.size), 1)

        def body(start: tf.Tensor, states: Any, so_far: Any) -> tuple[tf.Tensor, Any, Any]:
            here = slice(start, start + piece)
            scores, states = draws.score(
                lambda draw, state: self._run(draw, before[:, here], state),
                states,
                ids[:, here],
            )
            joined = [tf.concat(parts, axis=1) for parts in zip(so_far, scores, strict=True)]
            return start + piece, states, joined

        shapes = tf.nest.map_structure(lambda value: value.shape, states)
        *_, scores = tf.while_loop(
            lambda start, *_: start < steps,
            body,
            (tf.constant(0), states, [tf.zeros([rows, 0])] * 3),
            shape_invariants=(tf.TensorShape([]), shapes, [tf.TensorShape([None, None])] * 3),
            parallel_iterations=1,
        )
        return TargetScores(*scores).of_first(lengths)

    @staticmethod
    def _without_information(outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: value for name, value in outputs.items() if name != "mutual_information"}

    def load_draws(self, num_samples: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Makes S draws of the weights and keeps them, in place of those before, for the scores of that seed.

        Calls of `score_mc` and `score_text_mc` with the same seed and at most S samples then give the same
        answers as without, sooner. The draws take S times the memory of the weights in float32; 0 frees it.
        """
        return self._posterior.keep_draws(num_samples, self._scoring(seed))

    def _fresh(self, num_samples: tf.Tensor, seed: tf.Tensor) -> FreshDraws:
        return FreshDraws(self._posterior, num_samples, self._scoring(seed))

    @staticmethod
    def _scoring(seed: tf.Tensor) -> tf.Tensor:
        return noise.derive(noise.make_seed(seed), Stream.EVALUATION_DRAWS)

    def _held(self, num_samples: tf.Tensor, seed: tf.Tensor) -> HeldDraws:
        root = noise.derive(noise.make_seed(seed), Stream.CONTINUATION_DRAWS)
        return HeldDraws(self._posterior, num_samples, root)

    # The next word.

    def initial_state(self, rows: tf.Tensor) -> dict[str, tf.Tensor]:
        """The state before any word, zeros [rows, H]."""
        positive = require(rows >= 0, "rows must not be negative. Received: rows =", rows)
        with tf.control_dependencies([positive]):
            return {"state": tf.zeros([rows, self.state_size])}

    def next(self, tokens: tf.Tensor, state: Any) -> dict[str, tf.Tensor]:
        """log p of every next word, [N, V], after one more word [N], and the new state [N, H]."""
        rows = require(
            tf.size(tokens) == tf.shape(state)[0],
            "tokens and state must have as many rows. Received: tokens, rows of state =",
            tf.size(tokens),
            tf.shape(state)[0],
        )
        with tf.control_dependencies([rows]):
            tokens = self.words.check_ids(tokens)
        parts = tf.split(state, self._widths, axis=1)
        parts = [tf.cast(part, zero.dtype) for part, zero in zip(parts, self._zeros(1), strict=True)]
        logits, parts = self._run(self._posterior.mean(), tokens[:, tf.newaxis], parts)
        state = tf.concat([tf.cast(part, tf.float32) for part in parts], axis=1)
        return {"log_probs": tf.nn.log_softmax(logits[:, 0]), "state": state}

    # Generation.

    def generate(
        self,
        ids: tf.Tensor,
        lengths: tf.Tensor,
        max_words: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        end_at_eos: tf.Tensor,
        allow_unk: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """A continuation of each prompt, of at most max_words words, which may be 1 to 1000.

        Words are sampled from the probabilities to the power of 1 / temperature; at temperature 0 each is the
        most probable one. Of these only the top_k most probable ones remain (0: all), and of those the
        smallest set of most probable ones whose probability reaches top_p (1: all). With end_at_eos the first
        `<eos>` is the last word; `<unk>` comes with allow_unk only. The words are those of `--mode=generate`
        of the same seed. log_probs and entropy, nats [N, L], are of the words under the model itself.
        """
        prompt = self.words.check(ids, lengths, 1)
        settings = sampling.checked(Settings(max_words, temperature, top_k, top_p, end_at_eos, allow_unk))
        return self._without_information(self._bodies["generate"](*prompt, settings, seed))

    def generate_mc(
        self,
        ids: tf.Tensor,
        lengths: tf.Tensor,
        max_words: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        end_at_eos: tf.Tensor,
        allow_unk: tf.Tensor,
        num_samples: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """As `generate`, from the average of S draws, made once for all words; memory grows with S."""
        prompt = self.words.check(ids, lengths, 1)
        settings = sampling.checked(Settings(max_words, temperature, top_k, top_p, end_at_eos, allow_unk))
        return self._bodies["generate_mc"](*prompt, settings, check_samples(num_samples), seed)

    def generate_text(
        self,
        text: tf.Tensor,
        max_words: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        end_at_eos: tf.Tensor,
        allow_unk: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """`generate` of texts; an empty one begins a sentence."""
        prompt = self._prompt(text)
        return self.generate(*prompt, max_words, temperature, top_k, top_p, end_at_eos, allow_unk, seed)

    def generate_text_mc(
        self,
        text: tf.Tensor,
        max_words: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        end_at_eos: tf.Tensor,
        allow_unk: tf.Tensor,
        num_samples: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """`generate_mc` of texts."""
        settings = (max_words, temperature, top_k, top_p, end_at_eos, allow_unk)
        return self.generate_mc(*self._prompt(text), *settings, num_samples, seed)

    def _prompt(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ids, lengths = self.words.encode(text)
        ids = tf.concat([ids, tf.zeros([tf.shape(ids)[0], 1], tf.int32)], axis=1)
        first = tf.where(lengths == 0, self.words.eos, ids[:, 0])
        return tf.concat([first[:, tf.newaxis], ids[:, 1:]], axis=1), tf.maximum(lengths, 1)

    def _generate(
        self, draws: Draws, ids: tf.Tensor, lengths: tf.Tensor, settings: Settings, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        rows = tf.shape(ids)[0]
        states = draws.start(lambda draw: self._primed(draw, ids, lengths))
        next_word = averaged_step(self._run, draws)
        last = tf.gather(ids, lengths - 1, batch_dims=1)

        def step(tokens: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
            states, count, living = state
            # Nothing is left to choose after max_words words or the `<eos>` that ends: the row stops.
            has_ended = (count > 0) & settings.end_at_eos & (tokens == self.words.eos)
            living &= (count < settings.max_words) & ~has_ended
            log_probs, states = next_word(tokens, states)
            possible = living[:, tf.newaxis] & (settings.allow_unk | self.words.is_known)
            return tf.where(possible, log_probs, -math.inf), (states, count + 1, living)

        state = (states, tf.zeros([rows], tf.int32), tf.ones([rows], tf.bool))
        noise_seed = noise.derive(noise.make_seed(seed), Stream.CONTINUATION_NOISE, 0)
        found = sample(
            step,
            state,
            last,
            MAX_WORDS,
            None,
            seed=noise_seed,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
        )
        tokens = found.tokens[:, : longest(found.lengths)]
        before = tf.concat([last[:, tf.newaxis], tokens[:, :-1]], axis=1)
        scores = self._read(draws, before, tokens, found.lengths, states)._asdict()
        words = self.words.words_of(tokens, found.lengths)
        text = self.words.text_of(words, found.lengths)
        return {"text": text, "words": words, "ids": tokens, "lengths": found.lengths, **scores}

    def _primed(self, draw: Draw, ids: tf.Tensor, lengths: tf.Tensor) -> list[tf.Tensor]:
        """The state after all words of a prompt but its last."""
        start = self._zeros(tf.shape(ids)[0])
        return state_after(lambda words, state: self._run(draw, words, state), ids, lengths, start)

    # Text.

    def tokenize(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """The words of texts [N]."""
        return self._tokenized(*self.words.encode(text))

    def detokenize(self, ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        """The texts [N] of ids."""
        ids, lengths = self.words.check(ids, lengths, 0)
        words = self.words.words_of(ids, lengths)
        return {"text": self.words.text_of(words, lengths), "words": words}

    def _tokenized(self, ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"words": self.words.words_of(ids, lengths), "ids": ids, "lengths": lengths}
