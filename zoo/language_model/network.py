"""The language model's network: embedding, recurrent layers, softmax (Zaremba et al., 2014)."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import keras
import tensorflow as tf

from tfp_bayesrnn import (
    Dropout,
    PointMass,
    VariationalDense,
    VariationalEmbedding,
    VariationalFamily,
    released,
)
from tfp_bayesrnn.distributions import Prior, priors
from tfp_bayesrnn.layers.base import dropout_mask, mask_seed
from tfp_bayesrnn.model import recurrence
from zoo.language_model import cells
from zoo.language_model.configuration import Model
from zoo.runs import distributions
from zoo.runs.networks import VariationalNetwork, dtype_policy
from zoo.runs.settings import RunConfig


@keras.saving.register_keras_serializable("zoo")
class WordDropout(keras.layers.Layer):
    """Drops the vectors of whole word types, the same in all of a row (Gal and Ghahramani, 2016).

    Only in training: the authors' released code drops no words when it averages over masks at test time,
    where a mask is held for the whole stream and would erase a word from all of it.

    Call arguments: vectors [B, T, D] and the ids [B, T] they belong to.
    """

    def __init__(self, rate: float, vocabulary_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate = rate
        self.vocabulary_size = vocabulary_size
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, vectors: tf.Tensor, ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The vectors, without those of the dropped words."""
        seed = mask_seed(self.seed_generator, training) if training and self.rate > 0.0 else None
        if seed is None:
            return vectors
        mask = dropout_mask([tf.shape(ids)[0], self.vocabulary_size], self.rate, seed, vectors.dtype)
        return vectors * tf.gather(mask, ids, batch_dims=1)[:, :, tf.newaxis]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "vocabulary_size": self.vocabulary_size}


@keras.saving.register_keras_serializable("zoo")
class LanguageModelNetwork(VariationalNetwork):
    """ids [B, T] -> logits [B, T, V] of the next word.

    One network for every method. A deterministic or dropout model has point masses where the Bayesian one has
    distributions: embedding, recurrent layers with their biases, and the softmax's weight, not its bias.

    With `tied`, the softmax multiplies by the transposed embedding.
    """

    def __init__(
        self,
        vocabulary_size: int,
        units: int,
        layers: int = 2,
        embedding_units: int | None = None,
        tied: bool = False,
        init_range: float = 0.05,
        unit_forget_bias: bool = False,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        output_dropout: float = 0.0,
        prior: Prior | Callable | None = None,
        recurrent_posterior: VariationalFamily | None = None,
        other_posterior: VariationalFamily | None = None,
        cell: str = "lstm",
        **kwargs: Any,
    ):
        """Builds the network.

        Args:
          vocabulary_size: the number of words, V.
          units: the number of units of each recurrent layer.
          layers: the number of recurrent layers.
          embedding_units: the size of the embedding; None for `units`.
          tied: whether embedding and softmax share one weight; then `embedding_units` must be `units`.
          init_range: every (posterior mean of a) weight starts uniformly in (-init_range, init_range).
          unit_forget_bias: whether the bias of the LSTM's forget gates starts at one instead: at zero half of
            a memory is gone with every step. Other cells have no such bias.
          dropout: rate on the non-recurrent connections, drawn for every step (Zaremba et al., 2014).
          word_dropout: rate at which word types are dropped, one mask for a row (Gal and Ghahramani, 2016).
          input_dropout: rate on each recurrent layer's input, one mask for all steps.
          recurrent_dropout: rate on the recurrent connection, one mask for all steps.
          output_dropout: rate on the softmax's input, one mask for all steps.
          prior: the prior of the variational weights; None for the released scale mixture.
          recurrent_posterior: the variational family of the recurrent layers; None for point masses.
          other_posterior: the variational family of embedding and softmax; None for point masses.
          cell: the kind of the recurrent layers, one of `zoo.language_model.cells.CELLS`.
          **kwargs: the arguments of `keras.Model`.

        Raises:
          InputError: there is no such cell.
          ValueError: if `tied` and the sizes differ.
        """
        super().__init__(**kwargs)
        embedding_units = units if embedding_units is None else embedding_units
        if tied and embedding_units != units:
            raise ValueError(
                "A tied softmax needs an embedding of the recurrent layers' size. "
                f"Received: embedding_units={embedding_units}, units={units}"
            )
        self._arguments: dict[str, Any] = {
            "vocabulary_size": vocabulary_size,
            "units": units,
            "layers": layers,
            "cell": cell,
            "embedding_units": embedding_units,
            "tied": tied,
            "init_range": init_range,
            "unit_forget_bias": unit_forget_bias,
            "dropout": dropout,
            "word_dropout": word_dropout,
            "input_dropout": input_dropout,
            "recurrent_dropout": recurrent_dropout,
            "output_dropout": output_dropout,
        }
        self._prior = released.PRIOR if prior is None else priors.get(prior)
        self._recurrent_posterior = recurrent_posterior or PointMass()
        self._other_posterior = other_posterior or PointMass()
        self.tied = tied
        self.make_layers()

    def make_layers(self) -> None:
        """Makes the layers, not built yet; a subclass adds its own."""
        given, policy = self._arguments, self.dtype_policy
        uniform = keras.initializers.RandomUniform(-given["init_range"], given["init_range"])
        self.embedding = self._embedding(uniform)
        self.word_dropout = WordDropout(given["word_dropout"], given["vocabulary_size"], dtype=policy)
        self.dropouts = [Dropout(given["dropout"], dtype=policy) for _ in range(given["layers"] + 1)]
        self.recurrent = self._recurrent_layers(uniform)
        self.output_dropout = Dropout(given["output_dropout"], noise_shape=(None, 1, None), dtype=policy)
        if not self.tied:
            self.softmax = self._softmax(uniform)

    def _embedding(self, initializer: keras.initializers.Initializer) -> VariationalEmbedding:
        return VariationalEmbedding(
            self._arguments["vocabulary_size"],
            self._arguments["embedding_units"],
            embeddings_initializer=initializer,
            attend_bias=self.tied,
            prior=self._prior,
            posterior=self._other_posterior,
            name="embedding",
            dtype=self.dtype_policy,
        )

    def _recurrent_layers(self, initializer: keras.initializers.Initializer) -> list[keras.layers.Layer]:
        given = self._arguments
        make = cells.layer_class(given["cell"])
        # A bias of forget gates is the LSTM's alone.
        takes_forget_bias = "unit_forget_bias" in inspect.signature(make).parameters
        return [
            make(
                given["units"],
                kernel_initializer=initializer,
                recurrent_initializer=initializer,
                bias_initializer=initializer,
                dropout=given["input_dropout"],
                recurrent_dropout=given["recurrent_dropout"],
                prior=self._prior,
                posterior=self._recurrent_posterior,
                return_sequences=True,
                name=f"{given['cell']}_{index}",
                dtype=self.dtype_policy,
                **({"unit_forget_bias": given["unit_forget_bias"]} if takes_forget_bias else {}),
            )
            for index in range(given["layers"])
        ]

    def _softmax(self, initializer: keras.initializers.Initializer) -> VariationalDense:
        return VariationalDense(
            self._arguments["vocabulary_size"],
            kernel_initializer=initializer,
            bias_initializer=initializer,
            prior=self._prior,
            posterior=self._other_posterior,
            name="softmax",
            dtype=self.dtype_policy,
        )

    def build(self, input_shape: Any = None) -> None:
        """Makes all weights."""
        units, embedding_units = self._arguments["units"], self._arguments["embedding_units"]
        self.embedding.build(None)
        for index, layer in enumerate(self.recurrent):
            layer.build((None, None, units if index else embedding_units))
        if not self.tied:
            self.softmax.build((None, None, units))

    def get_initial_state(self, batch_size: int) -> list[list[tf.Tensor]]:
        """The states of each recurrent layer, all zeros; [h, c] of an LSTM."""
        return [layer.get_initial_state(batch_size) for layer in self.recurrent]

    @property
    def state_sizes(self) -> list[int]:
        """The number of units of each state of each recurrent layer: of h and c of an LSTM."""
        return [size for layer in self.recurrent for size in layer.cell.state_sizes]

    def state_from(self, vectors: tf.Tensor) -> list[list[tf.Tensor]]:
        """Splits [B, sum of `state_sizes`] into states: a layer's first, its output, goes through tanh."""
        parts = iter(tf.split(vectors, self.state_sizes, axis=-1))
        states = [[next(parts) for _ in layer.cell.state_sizes] for layer in self.recurrent]
        return [[tf.tanh(hidden), *others] for hidden, *others in states]

    def start(self, vectors: tf.Tensor, training: bool = False) -> list[list[tf.Tensor]]:
        """The states after one step whose input is `vectors` [B, embedding units], not a word's."""
        zeros = self.get_initial_state(tf.shape(vectors)[0])
        _, state = self._recur(vectors[:, tf.newaxis], zeros, training)
        return state

    def run(
        self, inputs: tf.Tensor, state: Any, training: bool = False
    ) -> tuple[tf.Tensor, list[list[tf.Tensor]]]:
        """Returns logits [B, T, V] and the states after the last word, from ids [B, T] and the states."""
        hidden, state = self._recur(self._vectors_of(inputs, training), state, training)
        return self._logits_of(hidden, training), state

    def _vectors_of(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        """The vectors [B, T, E] of words."""
        vectors = self.embedding(inputs, training=training)
        return self.word_dropout(vectors, inputs, training=training)

    def _logits_of(self, hidden: tf.Tensor, training: bool) -> tf.Tensor:
        """The logits of what the last layer makes of words."""
        hidden = self.output_dropout(self.dropouts[-1](hidden, training=training), training=training)
        if self.tied:
            return self.embedding.attend(hidden, training=training)
        return self.softmax(hidden, training=training)

    def _recur(
        self, hidden: tf.Tensor, state: Any, training: bool, first: int = 0
    ) -> tuple[tf.Tensor, list[list[tf.Tensor]]]:
        """Runs the recurrent layers from the `first` on, which have these states."""
        new_state = []
        layers = zip(self.dropouts[first:-1], self.recurrent[first:], state, strict=True)
        for dropout, layer, layer_state in layers:
            hidden = dropout(hidden, training=training)
            hidden, layer_state = recurrence.run_layer(layer, hidden, layer_state, training=training)
            new_state.append(layer_state)
        return hidden, new_state

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns logits [B, T, V] of ids [B, T], from a zero state."""
        logits, _ = self.run(inputs, self.get_initial_state(tf.shape(inputs)[0]), training=training)
        return logits

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the logits, [B, T, V]."""
        return (*input_shape, self._arguments["vocabulary_size"])


Network = TypeVar("Network", bound=LanguageModelNetwork)


def build_network(
    config: RunConfig,
    vocabulary_size: int,
    kind: type[Network] = LanguageModelNetwork,
    **more: Any,
) -> Network:
    """The network of a configuration whose table `model` is that of language models, or derived from it.

    Args:
      config: the resolved configuration.
      vocabulary_size: the number of words, V.
      kind: the class of the network.
      **more: further arguments of the network.
    """
    settings = {one.name: getattr(config.model, one.name) for one in dataclasses.fields(Model)}
    return kind(
        vocabulary_size,
        **settings,
        **more,
        prior=distributions.prior(config),
        recurrent_posterior=distributions.posterior(config, config.posterior.recurrent_scale_range),
        other_posterior=distributions.posterior(config, config.posterior.other_scale_range),
        dtype=dtype_policy(config),
    )
