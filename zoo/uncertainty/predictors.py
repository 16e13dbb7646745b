"""Models of the next word, each as a `Predictor` of the benchmark.

Dimensions: S samples of the weights, B rows, T steps of a window, V words of the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn import Posterior, noise
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.model import recurrence
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction.draws import given_draws
from zoo.uncertainty.scorers import Predictor

OUTPUTS = ("logits", "probabilities")
"""What a model's outputs may be; log-probabilities are logits too."""


def kind_of(outputs: tf.Tensor) -> str:
    """One of `OUTPUTS`: probabilities are not negative, and sum to 1 over the words."""
    outputs = tf.cast(outputs, tf.float32)
    sums = tf.reduce_sum(outputs, axis=-1)
    are = bool(tf.reduce_all(outputs >= 0.0)) and bool(tf.reduce_all(tf.abs(sums - 1.0) < 1e-2))
    return "probabilities" if are else "logits"


def log_probabilities(outputs: tf.Tensor, kind: str) -> tf.Tensor:
    """Outputs [..., V] of one `kind` as normalised log-probabilities, float32."""
    outputs = tf.cast(outputs, tf.float32)
    if kind == "probabilities":
        return tf.math.log(outputs) - tf.math.log(tf.reduce_sum(outputs, axis=-1, keepdims=True))
    return tf.nn.log_softmax(outputs)


class NetworkPredictor:
    """A Keras network, ids [B, T] -> logits or probabilities [B, T, V], whose RNN state is carried.

    S samples of a network with variational weights, or with this library's dropout, are draws of weights and
    masks, held for the whole text. Another network has no such draws: its samples are passes with
    `training=True`, so that its own dropout is on, with masks that are new in each window.
    """

    def __init__(
        self,
        network: keras.Model,
        samples: int = 0,
        seed: int = 0,
        kind: str | None = None,
        jit_compile: bool = False,
    ):
        """Builds the predictor; it holds S draws of all weights in memory.

        Args:
          network: the network, built.
          samples: the number of draws, S; 0: the mean of the weights, without dropout.
          seed: the seed of the draws.
          kind: the kind of the outputs, one of `OUTPUTS`; None: found out from the first of them.
          jit_compile: whether XLA compiles the predictor.
        """
        posterior = Posterior.of(network)
        self._network, self._weights, self._kind = network, posterior.weights, kind
        self._training = bool(samples) and not posterior.weights
        self._carries = carries_state(network)
        root = noise.derive(noise.make_seed(seed), Stream.EVALUATION_DRAWS)
        self._draws = given_draws(posterior, samples, root, dropout=True)
        self._function = tf.function(self._window, jit_compile=jit_compile, autograph=False)

    def __call__(self, ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """See `Predictor`; where the network carries no state, every window is read from its own start."""
        if state is None:
            zeros = recurrence.initial_state(self._network, ids.shape[0]) if self._carries else None
            state = [zeros] * self._draws.num_samples
        if self._kind is None:
            self._kind = kind_of(self._run(self._draws.draw(0), ids, state[0])[0])
        results = [self._run(self._draws.draw(place), ids, one) for place, one in enumerate(state)]
        return tf.stack([log_probs for log_probs, _ in results]), [new for _, new in results]

    def _run(self, draw: Draw, ids: tf.Tensor, state: Any) -> tuple[Any, Any]:
        return self._function([draw[weight] for weight in self._weights], draw.seed, ids, state, self._kind)

    def _window(
        self, values: Sequence[tf.Tensor], mask_seed: tf.Tensor, ids: tf.Tensor, state: Any, kind: Any
    ) -> tuple[Any, Any]:
        draw = Draw(dict(zip(self._weights, values, strict=True)), seed=mask_seed)
        if self._carries:
            outputs, state = draw.run(recurrence.run, self._network, ids, state, training=self._training)
        else:
            outputs = draw.run(self._network, ids, training=self._training)
        return outputs if kind is None else log_probabilities(outputs, kind), state


def carries_state(network: keras.Model) -> bool:
    """Returns whether the network's RNN state can be carried from window to window."""
    try:
        recurrence.initial_state(network, 1)
    except ValueError:
        return False
    return True


class FunctionPredictor:
    """A function of Python: (ids, state) -> (outputs, new state).

    It is given NumPy's int32 [B, T], and as `state` what it returned for the window before, None at the start
    of a text. Its outputs, of any kind of array, are logits or probabilities of the next words: [B, T, V], or
    of S samples [S, B, T, V], which should be the same ones in every window.
    """

    def __init__(self, function: Callable[[np.ndarray, Any], tuple[Any, Any]], kind: str | None = None):
        """Takes the function, and the kind of its outputs, as for `NetworkPredictor`."""
        self._function, self._kind = function, kind

    def __call__(self, ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """See `Predictor`.

        Raises:
          InputError: the function returns something else.
        """
        result = self._function(ids.numpy(), state)
        if not isinstance(result, tuple) or len(result) != 2:
            raise InputError(
                f"the function {self._function!r} returned {type(result).__name__}; accepted: a pair of "
                "outputs [rows, steps, words] and the state that it is given with the next window"
            )
        outputs = tf.convert_to_tensor(result[0])
        if outputs.shape.rank == 3:
            outputs = outputs[tf.newaxis]
        self._kind = self._kind or kind_of(outputs)
        return log_probabilities(outputs, self._kind), result[1]


class SavedModelPredictor:
    """A signature of a SavedModel, ids [B, T] -> [B, T, V] of the next words, which reads every window anew.

    Its only input are the ids, of any integer type and under any name. Its output, of one of the names
    `log_probs`, `logits` and `probabilities` unless there is only one, is about the word after each.
    """

    NAMES = ("log_probs", "logits", "probabilities")

    def __init__(self, model: Any, signature: str | None = None):
        """Finds what to call.

        Args:
          model: the object that `tf.saved_model.load` returns.
          signature: the signature's name; None for "next_word", else "serving_default", else the only one.

        Raises:
          InputError: there is no such signature, or it takes or returns something else.
        """
        names = sorted(model.signatures)
        wanted = (
            (signature,) if signature else ("next_word", "serving_default", *names[:1] * (len(names) == 1))
        )
        found = next((name for name in wanted if name in model.signatures), None)
        if found is None:
            has, accepted = ", ".join(names) or "none", " or ".join(wanted)
            raise InputError(f"the SavedModel has the signatures {has}; accepted: {accepted}")
        self._model, self._signature = model, model.signatures[found]  # The model owns the variables.
        inputs = self._signature.structured_input_signature[1]
        if len(inputs) != 1 or not next(iter(inputs.values())).dtype.is_integer:
            given = ", ".join(f"{name} {spec.dtype.name}" for name, spec in sorted(inputs.items()))
            raise InputError(f"signature {found!r} takes {given}; accepted: one input, ids [rows, steps]")
        self._input, spec = next(iter(inputs.items()))
        self._dtype = spec.dtype
        outputs = sorted(self._signature.structured_outputs)
        known = [name for name in self.NAMES if name in outputs]
        if not known and len(outputs) != 1:
            raise InputError(
                f"signature {found!r} returns {', '.join(outputs)}; accepted: {' or '.join(self.NAMES)}"
            )
        self._output = known[0] if known else outputs[0]
        self._kind = {"log_probs": "logits"}.get(self._output, self._output) if known else None

    def __call__(self, ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """See `Predictor`."""
        del state
        outputs = self._signature(**{self._input: tf.cast(ids, self._dtype)})[self._output]
        self._kind = self._kind or kind_of(outputs)
        return log_probabilities(outputs, self._kind)[tf.newaxis], None


class EnsemblePredictor:
    """Several predictors as one, whose samples are those of all; each of them counts the same."""

    def __init__(self, members: Sequence[Predictor]):
        """Takes at least one predictor."""
        self._members = list(members)

    def __call__(self, ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """See `Predictor`."""
        states = [None] * len(self._members) if state is None else state
        results = [member(ids, one) for member, one in zip(self._members, states, strict=True)]
        counts = [log_probs.shape[0] for log_probs, _ in results]
        # One that has fewer samples has them more than once.
        common = math.lcm(*counts)
        samples = [
            tf.repeat(log_probs, common // count, axis=0) if count < common else log_probs
            for (log_probs, _), count in zip(results, counts, strict=True)
        ]
        return tf.concat(samples, axis=0), [new for _, new in results]


class InContext:
    """A predictor that carries no state, given each window together with the words before it."""

    def __init__(self, predictor: Predictor, context: int):
        """Takes the predictor, and how many words before a window it is given, as far as there are any."""
        self._predictor, self._context = predictor, context

    def __call__(self, ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """See `Predictor`."""
        before = ids[:, :0] if state is None else state
        read = tf.concat([before, ids], axis=1)
        log_probs, _ = self._predictor(read, None)
        return log_probs[:, :, before.shape[1] :], read[:, max(read.shape[1] - self._context, 0) :]


def check_causal(predictor: Predictor, name: str, vocabulary_size: int) -> None:
    """Checks that predictions do not change with later words; for predictors without randomness.

    Raises:
      InputError: they do, as with a bidirectional layer.
    """
    ids = np.random.default_rng(0).integers(vocabulary_size, size=(1, 8)).astype(np.int32)
    other = np.concatenate([ids[:, :4], (ids[:, 4:] + 1) % vocabulary_size], axis=1)
    first, second = (predictor(tf.constant(read), None)[0] for read in (ids, other))
    change = tf.reduce_max(tf.abs(tf.exp(first[:, :, :4]) - tf.exp(second[:, :, :4])))
    if float(change) > 1e-5:
        raise InputError(
            f"{name} looks ahead: its probabilities change by up to {float(change):.2g} with words that come "
            "later; accepted: models that read from left to right"
        )
