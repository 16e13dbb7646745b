"""Language models that `--mode=export` has written, scored by their own signatures."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.errors import InputError
from zoo.data.vocabulary import Vocabulary
from zoo.uncertainty.records import Records
from zoo.uncertainty.scorers import Progress
from zoo.uncertainty.streams import Stream


def check_vocabulary(model: Any, vocabulary: Vocabulary, path: str) -> None:
    """Checks that an export's words are those of the data.

    Args:
      model: the object that `tf.saved_model.load` returns.
      vocabulary: the vocabulary of the data.
      path: the path of the export.

    Raises:
      InputError: they are not, or the export does not say.
    """
    ids = tf.range(len(vocabulary), dtype=tf.int32)[tf.newaxis]
    try:
        words = model.signatures["detokenize"](ids=ids, lengths=tf.constant([len(vocabulary)]))["words"]
    except (tf.errors.OpError, TypeError, KeyError) as error:
        raise InputError(
            f"the SavedModel {path} has a signature 'score', but its 'detokenize' does not give the "
            f"{len(vocabulary)} words of the data; accepted: exports of models of this data"
        ) from error
    if [word.decode("utf-8") for word in words.numpy().ravel()] != list(vocabulary.words):
        raise InputError(f"the SavedModel {path} has other words than the data, or in another order")


class ExportScorer:
    """A `Scorer` by the signatures `score` and `score_mc`, which read a text as one, behind an `<eos>`.

    They tell no confidence, so there is no calibration error.
    """

    def __init__(self, model: Any, name: str, samples: int = 0, seed: int = 0):
        """Takes what `tf.saved_model.load` returns, its name, S (0: the mean), and the seed of the draws."""
        self.name, self.method, self.layout = name, "SavedModel", "one stream, behind an <eos>"
        self.weights = f"average over {samples} samples" if samples else "mean"
        self._model, self._samples, self._seed = model, samples, seed

    def fit_temperature(self, stream: Stream, progress: Progress = iter) -> None:
        """See `Scorer`: there are no probabilities of every word of the validation text."""

    def tempered(self, temperature: float) -> None:
        """See `Scorer`."""

    def score(self, name: str, stream: Stream, progress: Progress = iter) -> Records:
        """See `Scorer`.

        Raises:
          InputError: the model's vocabulary is smaller than the text's, or it returns something else.
        """
        arguments = {
            "ids": tf.constant(stream.tokens[np.newaxis], tf.int32),
            "lengths": tf.constant([len(stream.tokens)], tf.int32),
        }
        if self._samples:
            arguments |= {"num_samples": tf.constant(self._samples), "seed": tf.constant(self._seed)}
        signature = "score_mc" if self._samples else "score"
        try:
            for _ in progress([name]):
                outputs = self._model.signatures[signature](**arguments)
                log_prob, entropy = (_predicted(outputs[field]) for field in ("log_probs", "entropy"))
                information = _predicted(outputs["mutual_information"]) if self._samples else None
        except (tf.errors.OpError, TypeError, KeyError) as error:
            reason = getattr(error, "message", None) or error
            raise InputError(
                f"signature {signature!r} of {self.name} cannot score {name}: {reason}"
            ) from None
        return Records(entropy, None if information is None else entropy - information, log_prob)


def _predicted(values: tf.Tensor) -> np.ndarray:
    """Turns values of all words, [1, N + 1], into [N]: those after the first."""
    return values.numpy()[0, 1:].astype(np.float64)
