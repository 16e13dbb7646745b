"""A token stream cut into contiguous rows, and the rows into windows taken in order.

Row r continues over all windows: window k + 1 starts where window k ended, so the recurrent state after one
window is the right state before the next (truncated back-propagation through time). Shapes below: B rows
(the batch), T steps (the unroll). An element is

    ({"inputs": int32 [B, T], "is_first": bool [B]}, targets int32 [B, T], weights float32 [B, T])

`targets` are the tokens after `inputs`. `is_first` says which rows start afresh, without state from before:
all of them in window 0, none in the others. `weights` are 1 for a prediction and 0 for padding, which is
only ever at the end of a row; ids are 0 there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.errors import InputError, unknown_name

Element = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Windows:
    """The windows of one pass over a stream; made by `train_windows` and `evaluation_windows`.

    Attributes:
      batch: rows, B.
      unroll: steps per window, T.
      windows: windows per pass; also `len()`.
      predictions: tokens predicted per pass, padding not counted.
      rows: int32 [B, windows * T + 1]: the tokens of each row, padded with 0.
      row_predictions: int64 [B]: how many predictions of each row are not padding.
    """

    batch: int
    unroll: int
    windows: int
    predictions: int
    rows: np.ndarray = field(repr=False)
    row_predictions: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return self.windows

    def element(self, index: int) -> Element:
        """Window `index` of a pass as NumPy arrays; it depends on nothing but the index."""
        if not 0 <= index < self.windows:
            raise IndexError(f"window {index} is outside the pass: accepted 0 to {self.windows - 1}")
        start = index * self.unroll
        steps = start + np.arange(self.unroll)
        inputs = {
            "inputs": self.rows[:, start : start + self.unroll],
            "is_first": np.full(self.batch, index == 0),
        }
        targets = self.rows[:, start + 1 : start + self.unroll + 1]
        weights = (steps < self.row_predictions[:, None]).astype(np.float32)
        return inputs, targets, weights

    def dataset(self, start: int = 0, repeat: bool = False) -> tf.data.Dataset:
        """The elements in order, from window `start` on.

        Args:
          start: the first window. With `repeat` it may pass the end of the first pass: a run resumed
            after n steps goes on with `dataset(start=n, repeat=True)`.
          repeat: goes on with pass after pass, for ever, instead of ending after one.

        Raises:
          InputError: where `start` is negative or, without `repeat`, beyond the end of the pass.
        """
        if start < 0 or (start > self.windows and not repeat):
            end = "" if repeat else f" to {self.windows}"
            raise InputError(f"start={start} is outside the pass: accepted 0{end}")
        rows = tf.constant(self.rows)
        row_predictions = tf.constant(self.row_predictions)[:, None]
        steps = tf.range(self.unroll, dtype=tf.int64)

        def element(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            first = index * self.unroll
            tokens = tf.slice(rows, [0, first], [self.batch, self.unroll + 1])
            inputs = {"inputs": tokens[:, :-1], "is_first": tf.fill([self.batch], tf.equal(index, 0))}
            weights = tf.cast(first + steps < row_predictions, tf.float32)
            return inputs, tokens[:, 1:], weights

        if repeat:
            indices = tf.data.Dataset.counter(start % self.windows).map(lambda step: step % self.windows)
        else:
            indices = tf.data.Dataset.range(start, self.windows)
        return indices.map(element).prefetch(tf.data.AUTOTUNE)


def train_windows(tokens: np.ndarray, batch: int, unroll: int, tail: str = "drop") -> Windows:
    """The windows of training.

    With `tail="drop"` the layout of the released Bayes-by-Backprop code (and of Zaremba et al. before it):
    `len(tokens) // batch` tokens a row, whole windows only, what is left over of each row and of the stream
    is not trained on. With `tail="pad"` every token after the first is predicted, as in
    `evaluation_windows` with `batch` rows.

    Args:
      tokens: the stream, integers [N].
      batch: rows, B.
      unroll: steps per window, T.
      tail: `"drop"` or `"pad"`.

    Raises:
      InputError: where the stream is too short for one window, or an argument is not as said.
    """
    if tail == "pad":
        return evaluation_windows(tokens, rows=batch, unroll=unroll)
    if tail != "drop":
        raise unknown_name("tail", tail, ("drop", "pad"))
    tokens = _stream(tokens)
    _positive(batch=batch, unroll=unroll)
    length = len(tokens) // batch
    windows = (length - 1) // unroll
    if windows < 1:
        raise InputError(
            f"{len(tokens)} tokens are too few for batch={batch}, unroll={unroll}: "
            f"one window needs {batch * (unroll + 1)}"
        )
    return _windows(tokens, batch, unroll, length, np.full(batch, windows * unroll))


def evaluation_windows(tokens: np.ndarray, rows: int = 1, unroll: int = 35) -> Windows:
    """Windows that predict every token after the first exactly once.

    The N - 1 predictions are split into `rows` contiguous rows of equal length; the last row (or rows) and
    the last window are padded with weight 0. A row's first input is the last target of the row before, so
    no token is lost between rows, but each row starts without a memory of what came before it: only
    `rows=1` scores the stream as one text.

    Args:
      tokens: the stream, integers [N], N at least 2.
      rows: rows, B.
      unroll: steps per window, T. It does not change what is predicted from what, only how much at once.

    Raises:
      InputError: where the stream has fewer than 2 tokens or an argument is not as said.
    """
    tokens = _stream(tokens)
    _positive(rows=rows, unroll=unroll)
    predictions = len(tokens) - 1
    if predictions < 1:
        raise InputError(f"{len(tokens)} tokens leave nothing to predict: at least 2 are needed")
    length = -(-predictions // rows)
    return _windows(tokens, rows, unroll, length, np.clip(predictions - length * np.arange(rows), 0, length))


def _windows(
    tokens: np.ndarray, batch: int, unroll: int, length: int, row_predictions: np.ndarray
) -> Windows:
    """Row r takes `row_predictions[r]` predictions from token `r * length` on."""
    windows = -(-int(row_predictions.max()) // unroll)
    rows = np.zeros([batch, windows * unroll + 1], np.int32)
    for row, count in enumerate(row_predictions):
        if count:
            rows[row, : count + 1] = tokens[row * length : row * length + count + 1]
    rows.flags.writeable = False
    return Windows(batch, unroll, windows, int(row_predictions.sum()), rows, row_predictions.astype(np.int64))


def _stream(tokens: np.ndarray) -> np.ndarray:
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise InputError(
            f"tokens of shape {tokens.shape} and type {tokens.dtype}: one stream of integers [N] is accepted"
        )
    return tokens


def _positive(**arguments: int) -> None:
    for name, value in arguments.items():
        if value < 1:
            raise InputError(f"{name}={value}: accepted 1 or more")
