"""The captioning network: an image starts an LSTM language model (Vinyals et al., 2015; Xu et al., 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import Dropout
from tfp_bayesrnn.errors import unknown_name
from zoo.captioning.configuration import IMAGE_AS
from zoo.language_model.network import LanguageModelNetwork


@keras.saving.register_keras_serializable("zoo")
class CaptionNetwork(keras.Model):
    """{"image" or "features", "words" [B, K, T]} -> logits [B, K, T, V] of each caption's next word.

    An encoder makes a vector [B, F] of an image and a dense layer makes it what starts the decoder's LSTM,
    once for all K captions of the image: "input", the first input, in the place of a word (Vinyals et al.,
    2015); or "state", the states themselves, from which an encoder that is not trained yet learns sooner.
    With "attention" the encoder makes a grid [B, h, w, F] instead: its average becomes the states, and an
    `AttentionDecoder` looks at its places, each through a dense layer of their own, with every word. The
    decoder is a language model like any other, and what of it is Bayesian is its own affair; encoder and
    dense layers never are. What they make is normalised (Ba et al., 2016): without that, training to
    make it heard above the words lets it grow until it saturates the gates.

    Instead of images the network takes the encoder's "features", [B, F] or [B, h, w, F], too.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: LanguageModelNetwork,
        feature_dropout: float = 0.0,
        image_as: str = "input",
        **kwargs: Any,
    ):
        """Builds the network.

        Args:
          encoder: the encoder, from images [B, S, S, 3] to features.
          decoder: the language model; an `AttentionDecoder` with "attention".
          feature_dropout: the dropout rate on the features.
          image_as: how the decoder gets the image, "input", "state" or "attention".
          **kwargs: the arguments of `keras.Model`.

        Raises:
          InputError: `image_as` is none of the three.
        """
        super().__init__(**kwargs)
        if image_as not in IMAGE_AS:
            raise unknown_name("image_as", image_as, IMAGE_AS)
        self.image_as = image_as
        self.encoder = encoder
        self.decoder = decoder
        self.feature_dropout = Dropout(feature_dropout, dtype=self.dtype_policy)
        size = decoder.embedding.output_dim if image_as == "input" else sum(decoder.state_sizes)
        self.projection = keras.layers.Dense(size, dtype=self.dtype_policy, name="projection")
        self.normalization = keras.layers.LayerNormalization(dtype=self.dtype_policy, name="normalization")
        if image_as == "attention":
            self.place_projection = keras.layers.Dense(
                decoder.place_units, dtype=self.dtype_policy, name="place_projection"
            )
            self.place_normalization = keras.layers.LayerNormalization(
                dtype=self.dtype_policy, name="place_normalization"
            )

    def build(self, input_shape: Any = None) -> None:
        """Makes all weights."""
        size = self.encoder.output_shape[-1]
        self.projection.build((None, size))
        self.normalization.build((None, self.projection.units))
        if self.image_as == "attention":
            self.place_projection.build((None, None, size))
            self.place_normalization.build((None, None, self.place_projection.units))
        if not self.decoder.built:
            self.decoder.build(None)

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Makes all weights of a network that is being loaded."""
        self.build()

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The logits."""
        words = inputs["words"]
        state = self.start(self.features(inputs, training), training)
        captions, steps = tf.shape(words)[1], tf.shape(words)[2]
        state = tf.nest.map_structure(lambda value: tf.repeat(value, captions, axis=0), state)
        logits, _ = self.decoder.run(tf.reshape(words, [-1, steps]), state, training=training)
        return tf.reshape(logits, [-1, captions, steps, logits.shape[-1]])

    def features(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The encoder's features of "image", or "features" as they are."""
        if "features" in inputs:
            return inputs["features"]
        return self.encoder(inputs["image"], training=training)

    def start(self, features: tf.Tensor, training: bool = False) -> list[Any]:
        """The decoder's state after the image and before the first word."""
        features = tf.cast(self.feature_dropout(features, training=training), self.compute_dtype)
        if self.image_as == "attention":
            return self._start_looking(features, training)
        vectors = self.normalization(self.projection(features))
        if self.image_as == "input":
            return self.decoder.start(vectors, training=training)
        return self.decoder.state_from(vectors)

    def _start_looking(self, grid: tf.Tensor, training: bool) -> list[Any]:
        """The state of an attentive decoder, from a grid [B, ..., F]."""
        places = tf.reshape(grid, [tf.shape(grid)[0], math.prod(grid.shape[1:-1]), grid.shape[-1]])
        state = self.decoder.state_from(self.normalization(self.projection(tf.reduce_mean(places, axis=1))))
        places = self.place_normalization(self.place_projection(places))
        return self.decoder.looking_at(places, state, training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the logits, [B, K, T, V]."""
        return self.decoder.compute_output_shape(input_shape["words"])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "feature_dropout": self.feature_dropout.rate,
            "image_as": self.image_as,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CaptionNetwork:
        """The network whose `get_config` gave `config`."""
        config = dict(config)
        for name in ("encoder", "decoder"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
