"""A decoder that looks at places of an image before every word, as "Show, Attend and Tell" (Xu et al., 2015).

Shapes: N rows, L places of an image, T words, E embedding, U units, A units of the attention, D of a place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import VariationalDense, VariationalEmbedding, ops
from zoo.language_model.network import LanguageModelNetwork


@keras.saving.register_keras_serializable("zoo")
class AttentionDecoder(LanguageModelNetwork):
    """A language model whose first layer reads, with every word, what it looks at in an image.

    With h the output of the first layer a step before, y the word and a_i the image's places,

        e_i = v . tanh(W_a a_i + W_h h + b)      weights = softmax(e)
        z = sigmoid(w . h + c) * sum_i weights_i a_i
        h' = first layer of ([E y, z], h)        the other layers are as they are without an image
        logits = softmax layer of (E y + L [top h', z])

    which is the paper's soft attention with its gate and deep output (sections 3.1, 4.2). Of its penalty on
    places that are never looked at there is nothing. Every weight here is one of the library's variational
    layers: of the attention as those of the recurrent layers are, of L as those of embedding and softmax, and
    one draw of all serves every step. v is a table of one row, so that a prior by rows takes it as one.

    The state is that of the layers and, behind them, the image: [a, W_a a + b].
    """

    def __init__(
        self, vocabulary_size: int, units: int, *, attention_units: int, place_units: int, **kwargs: Any
    ):
        """Builds the decoder.

        Args:
          vocabulary_size: the number of words.
          units: the number of units of each recurrent layer, U.
          attention_units: the number of units of the attention, A.
          place_units: the size of a place's vector, D.
          **kwargs: the arguments of `LanguageModelNetwork`.
        """
        self.place_units = place_units
        self.attention_units = attention_units
        super().__init__(vocabulary_size, units, **kwargs)
        self._arguments |= {"attention_units": attention_units, "place_units": place_units}

    def make_layers(self) -> None:
        """Makes those of a language model, and those of the attention."""
        super().make_layers()
        given = self._arguments
        uniform = keras.initializers.RandomUniform(-given["init_range"], given["init_range"])
        common: dict[str, Any] = {"prior": self._prior, "dtype": self.dtype_policy}
        ours = {**common, "posterior": self._recurrent_posterior}
        self.keys = VariationalDense(
            self.attention_units, kernel_initializer=uniform, name="attention_keys", **ours
        )
        # The queries, and beside them the gate.
        self.queries = VariationalDense(
            self.attention_units + 1, kernel_initializer=uniform, name="attention_queries", **ours
        )
        self.scores = VariationalEmbedding(
            1, self.attention_units, embeddings_initializer=uniform, name="attention_scores", **ours
        )
        self.deep_output = VariationalDense(
            given["embedding_units"],
            use_bias=False,
            kernel_initializer=uniform,
            posterior=self._other_posterior,
            name="deep_output",
            **common,
        )

    def build(self, input_shape: Any = None) -> None:
        """Makes all weights."""
        units, embedding_units = self._arguments["units"], self._arguments["embedding_units"]
        self.embedding.build(None)
        for index, layer in enumerate(self.recurrent):
            layer.build((None, None, units if index else embedding_units + self.place_units))
        self.keys.build((None, None, self.place_units))
        self.queries.build((None, units))
        self.scores.build(None)
        self.deep_output.build((None, None, units + self.place_units))
        if not self.tied:
            self.softmax.build((None, None, embedding_units))

    def looking_at(self, places: tf.Tensor, state: Sequence[Any], training: bool = False) -> list[Any]:
        """The state of layers in `state` and an image in view.

        Args:
          places: the image's places, [N, L, D].
          state: the states of the layers.
          training: whether it is for training.
        """
        return [*state, [places, self.keys(places, training=training)]]

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """The states of the layers, all zeros, with no image in view: it has no places."""
        nothing = [
            tf.zeros([batch_size, 0, size], self.compute_dtype)
            for size in (self.place_units, self.attention_units)
        ]
        return [*super().get_initial_state(batch_size), nothing]

    def attend(
        self, hidden: tf.Tensor, image: Sequence[tf.Tensor], training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What is seen from hidden states [N, U]: (z [N, D], the weights [N, L] of the places)."""
        places, keys = image
        query, gate = tf.split(self.queries(hidden, training=training), [self.attention_units, 1], axis=-1)
        energies = self.scores.attend(tf.tanh(keys + query[:, tf.newaxis]), training=training)[..., 0]
        weights = tf.cast(tf.nn.softmax(tf.cast(energies, tf.float32)), self.compute_dtype)
        seen = tf.linalg.matvec(places, weights, transpose_a=True)
        return tf.sigmoid(gate) * seen, weights

    def run(self, inputs: tf.Tensor, state: Any, training: bool = False) -> tuple[tf.Tensor, list[Any]]:
        """Returns logits [N, T, V] and the states after the last word, from ids [N, T] and the states."""
        *states, image = state
        words = self._vectors_of(inputs, training)
        hidden, seen, first = self._look_and_read(words, states[0], image, training)
        hidden, others = self._recur(hidden, states[1:], training, first=1)
        deep = self.deep_output(tf.concat([hidden, seen], axis=-1), training=training)
        return self._logits_of(words + deep, training), [first, *others, image]

    def _look_and_read(
        self, words: tf.Tensor, state: Sequence[tf.Tensor], image: Sequence[tf.Tensor], training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Runs the first layer over words [N, T, E]: (outputs, what was seen [N, T, D], new state)."""
        cell, words = self.recurrent[0].cell, self.dropouts[0](words, training=training)
        nothing = tf.zeros([tf.shape(words)[0], self.place_units], words.dtype)

        def step(word: tf.Tensor, state: Sequence[tf.Tensor]) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
            seen, _ = self.attend(state[0], image, training)
            hidden, state = cell(tf.concat([word, seen], axis=-1), state, training=training)
            return tf.concat([hidden, seen], axis=-1), state

        # As `keras.layers.RNN` does around its loop: one draw and one set of masks for all steps.
        cell.get_dropout_mask(tf.concat([words[:, 0], nothing], axis=-1))
        try:
            outputs, state = ops.recur(step, words, state, cell.output_size + self.place_units)
        finally:
            cell.reset_dropout_mask()
        hidden, seen = tf.split(outputs, [cell.output_size, self.place_units], axis=-1)
        return hidden, seen, list(state)
