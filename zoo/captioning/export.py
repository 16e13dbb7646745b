"""A captioning model as a SavedModel: captions of image files.

Shapes: N images, L words of the longest caption and what ends it, S draws.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfp_bayesrnn import BayesianModel, noise
from tfp_bayesrnn.export.saved_model import ExportedPosterior
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction.draws import Draws, HeldDraws, check_samples, mean_draw
from zoo.captioning.caption_search import FORBIDDEN, check_beam
from zoo.captioning.configuration import CaptioningConfig
from zoo.captioning.image_files import decode_images
from zoo.captioning.network import CaptionNetwork
from zoo.data.captions import END, START
from zoo.data.vocabulary import Vocabulary
from zoo.decoding.beam_search import beam_search
from zoo.decoding.sampling import greedy
from zoo.decoding.sequences import averaged_step
from zoo.signatures.words import Words

_IMAGES = tf.TensorSpec([None], tf.string, "images")
_NUM_SAMPLES = tf.TensorSpec([], tf.int32, "num_samples")
_SEED = tf.TensorSpec([], tf.int32, "seed")


class CaptionExport:
    """The contents of a captioning model's SavedModel, and its signatures.

    Attributes:
      module: the module that holds the weights and the vocabulary.
    """

    def __init__(
        self,
        network: CaptionNetwork,
        exported: ExportedPosterior,
        vocabulary: Vocabulary,
        directory: str | os.PathLike[str],
        image_size: int,
        max_words: int,
        beam: int = 3,
        length_penalty: float = 0.0,
        interpolation: str = "bilinear",
    ):
        """Builds the tables.

        Args:
          network: the captioning network.
          exported: the network's weights.
          vocabulary: the vocabulary of its words.
          directory: the directory that `Words` takes.
          image_size: the side of the square images that the encoder takes, in pixels.
          max_words: the largest number of words in a caption.
          beam: the number of beams; 1 is the most probable word each time.
          length_penalty: the penalty of `zoo.decoding.beam_search`.
          interpolation: how images are brought to that size.
        """
        self.words = Words(vocabulary, directory)
        self.module = tf.Module(name="captioning")
        self.module.parts, self.module.words = exported.parts, self.words
        self._posterior = exported
        self._size, self._interpolation = image_size, interpolation
        self._max_length = max_words + 1
        self._beam = beam
        self._length_penalty = length_penalty
        self._features = lambda images: self._under(
            exported.mean(), lambda: network.features({"image": images})
        )
        self._start = lambda draw, features: self._under(draw, lambda: network.start(features))
        # As it is after an image: what an attentive decoder looks at is of its size.
        template = network.start(tf.zeros([1, *network.encoder.output_shape[1:]]))

        def run(words: tf.Tensor, *parts: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
            logits, state = network.decoder.run(words, tf.nest.pack_sequence_as(template, parts))
            return tf.cast(logits, tf.float32), tf.nest.flatten(state)

        state = [tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in tf.nest.flatten(template)]
        traced = exported.function(run, [tf.TensorSpec([None, None], tf.int32), *state])
        self._run = lambda draw, words, state: traced(draw, words, *tf.nest.flatten(state))

    def signatures(self) -> dict[str, Callable]:
        """The `tf.function` of each signature by name; the Monte Carlo form too where there are scales."""
        made = {"caption": tf.function(self.caption, input_signature=[_IMAGES], autograph=False)}
        if self._posterior.has_scales:
            inputs = [_IMAGES, _NUM_SAMPLES, _SEED]
            made["caption_mc"] = tf.function(self.caption_mc, input_signature=inputs, autograph=False)
            made["load_draws"] = tf.function(self.load_draws, input_signature=inputs[1:], autograph=False)
        return {**made, "serving_default": made["caption"]}

    def caption(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """The best caption found of each image file, string [N], under the posterior mean.

        Images are JPEG, PNG, GIF or BMP files of any size; see `zoo.captioning.image_files`.
        log_probs and entropy, nats [N, L], are of every word and of what ends the caption: `predicted` of
        them count in a row. log_prob [N] is of the whole caption.
        """
        found = self._caption(mean_draw(self._posterior), images)
        del found["mutual_information"]
        return found

    def caption_mc(self, images: tf.Tensor, num_samples: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """As `caption`, under the average of S draws, the same ones for all images and words."""
        samples = check_samples(num_samples)
        return self._caption(HeldDraws(self._posterior, samples, self._describing(seed)), images)

    def load_draws(self, num_samples: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Makes S draws of the weights and keeps them for `caption_mc` of that seed.

        Its calls with at most S samples then give the same answers as without, sooner. The draws take S times
        the memory of the weights in float32; 0 frees it.
        """
        return self._posterior.keep_draws(num_samples, self._describing(seed))

    @staticmethod
    def _describing(seed: tf.Tensor) -> tf.Tensor:
        return noise.derive(noise.make_seed(seed), Stream.DESCRIPTION_DRAWS)

    def _caption(self, draws: Draws, images: tf.Tensor) -> dict[str, tf.Tensor]:
        features = self._features(decode_images(images, self._size, self._interpolation))
        states = draws.start(lambda draw: tf.nest.flatten(self._start(draw, features)))
        start = tf.fill([tf.shape(features)[0]], START)
        arguments = (averaged_step(self._run, draws), states, start, self._max_length, END, FORBIDDEN)
        if self._beam == 1:
            found = greedy(*arguments)
        else:
            found = beam_search(*arguments, beam_size=self._beam, length_penalty=self._length_penalty)
            found = tf.nest.map_structure(lambda value: value[:, 0], found)
        predicted = found.lengths + tf.cast(found.finished, tf.int32)
        before = tf.concat([start[:, tf.newaxis], found.tokens[:, :-1]], axis=1)
        scores, _ = draws.score(lambda draw, state: self._run(draw, before, state), states, found.tokens)
        # A caption that has not ended by then is cut, in place of its end.
        lengths = tf.minimum(found.lengths, self._max_length - 1)
        words = self.words.words_of(found.tokens, lengths)
        return {
            "captions": self.words.text_of(words, lengths),
            "words": words,
            "ids": found.tokens,
            "lengths": lengths,
            "predicted": predicted,
            "log_prob": found.log_probs,
            **scores.of_first(predicted)._asdict(),
        }

    def _under(self, draw: Draw, run: Callable[[], Any]) -> Any:
        with self._posterior.in_force(draw):
            return run()


def export(
    config: CaptioningConfig,
    model: BayesianModel,
    exported: ExportedPosterior,
    vocabulary: Vocabulary,
    directory: str | os.PathLike[str],
) -> tuple[CaptionExport, dict[str, Any]]:
    """Returns what a run's SavedModel holds, and what `signatures.json` says about it, with an example call.

    Args:
      config: the run's configuration, resolved.
      model: the run's model.
      exported: the weights of its network.
      vocabulary: the vocabulary of its words.
      directory: the directory that `Words` takes.

    Raises:
      InputError: the vocabulary has fewer words than there are beams.
    """
    settings, encoder = config.evaluate, config.encoder
    chosen = {
        "image_size": encoder.image_size,
        "interpolation": encoder.interpolation,
        **{name: getattr(settings, name) for name in ("max_words", "beam", "length_penalty")},
    }
    check_beam(settings.beam, vocabulary, settings.max_words)
    made = CaptionExport(model.network, exported, vocabulary, directory, **chosen)
    example = 'model.signatures["caption"](images=tf.stack([tf.io.read_file("photo.jpg")]))["captions"]'
    return made, {**chosen, "example": example}
