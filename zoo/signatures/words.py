"""A vocabulary inside an exported model: text in and text out, in TensorFlow's operations."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.export.saved_model import require
from zoo.data.vocabulary import EOS, UNK, Vocabulary

# The white space of `str.split`, as a regular expression of RE2.
_SPACE = r"[\p{Z}\x{85}\t-\r\x1c-\x1f]+"


class Words(tf.Module):
    """Words to ids and back, N texts at a time; the vocabulary is an asset of the model.

    A text's words are what white space separates; a line that another follows ends with `<eos>`, where the
    vocabulary has that. A word outside the vocabulary becomes `<unk>`; without an `<unk>` the call ends with
    an error that names it.

    Attributes:
      size: the number of words in the vocabulary, V.
      eos: the id of `<eos>`; None where there is none.
      is_known: bool [V], false of `<unk>` alone.
    """

    def __init__(self, vocabulary: Vocabulary, directory: str | os.PathLike[str], lowercase: bool = False):
        """Makes the tables.

        Args:
          vocabulary: the model's vocabulary.
          directory: a directory where `vocabulary.txt` can be written and stays until the model is saved.
          lowercase: whether texts are read in lower case.
        """
        super().__init__(name="words")
        path = Path(directory) / "vocabulary.txt"
        vocabulary.save(path)
        self.size = len(vocabulary)
        self.eos = vocabulary.id(EOS) if EOS in vocabulary else None
        self._lowercase = lowercase
        self._unknown = vocabulary.id(UNK) if UNK in vocabulary else None
        self.is_known = np.array([word != UNK for word in vocabulary.words])
        line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        asset = tf.saved_model.Asset(os.fspath(path))
        self._asset = asset
        self._ids = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(asset.asset_path, tf.string, line, tf.int64, number), -1
        )
        self._words = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(asset.asset_path, tf.int64, number, tf.string, line), ""
        )

    def encode(self, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Texts [N] as ids, int32 [N, T], padded with 0, and lengths, int32 [N]."""
        if self._lowercase:
            texts = tf.strings.lower(texts, encoding="utf-8")
        if self.eos is not None:
            texts = tf.strings.regex_replace(texts, "\n", f" {EOS} ")
        texts = tf.strings.regex_replace(texts, _SPACE, " ")
        words = tf.strings.split(tf.strings.strip(texts))
        ids = tf.cast(self._ids.lookup(words.flat_values), tf.int32)
        if self._unknown is not None:
            ids = tf.where(ids < 0, self._unknown, ids)
        else:
            missing = tf.boolean_mask(words.flat_values, ids < 0)
            known = require(
                tf.size(missing) == 0, f"words outside the vocabulary, which has no {UNK}:", missing
            )
            with tf.control_dependencies([known]):
                ids = tf.identity(ids)
        return words.with_flat_values(ids).to_tensor(0), tf.cast(words.row_lengths(), tf.int32)

    def words_of(self, ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """The words, string [N, T], of ids [N, T]; empty after the first `lengths` [N] of a row."""
        mask = tf.sequence_mask(lengths, tf.shape(ids)[1])
        return tf.where(mask, self._words.lookup(tf.cast(ids, tf.int64)), "")

    def text_of(self, words: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Texts [N] of words [N, T]: spaces between them, a line break for `<eos>`."""
        is_break = words == EOS
        begins = tf.concat([tf.ones_like(is_break[:, :1]), is_break[:, :-1]], axis=1)
        pieces = tf.where(is_break, "\n", tf.where(begins, words, tf.strings.join([" ", words])))
        counts = tf.sequence_mask(lengths, tf.shape(words)[1])
        return tf.strings.reduce_join(tf.where(counts, pieces, ""), axis=1)

    def check(self, ids: tf.Tensor, lengths: tf.Tensor, at_least: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Ids [N, T], padded with 0 whatever their padding was, and lengths [N], if they are accepted.

        Args:
          ids: ids of the vocabulary, where they are not padding.
          lengths: the lengths of the rows, from `at_least` to T.
          at_least: the smallest number of words in a row.
        """
        rows, steps = tf.unstack(tf.shape(ids))
        same = require(
            rows == tf.size(lengths),
            "ids [N, T] and lengths [N] must have as many rows. Received: rows of ids, rows of lengths =",
            rows,
            tf.size(lengths),
        )
        within = require(
            tf.reduce_all((lengths >= at_least) & (lengths <= steps)),
            f"lengths must lie between {at_least} and the number of columns of ids. Received: columns, "
            "lengths =",
            steps,
            lengths,
        )
        with tf.control_dependencies([same, within]):
            ids = tf.where(tf.sequence_mask(lengths, steps), ids, 0)
        with tf.control_dependencies([self._check_ids(ids)]):
            return tf.identity(ids), tf.identity(lengths)

    def check_ids(self, ids: tf.Tensor) -> tf.Tensor:
        """Ids of any shape, if they are accepted."""
        with tf.control_dependencies([self._check_ids(ids)]):
            return tf.identity(ids)

    def _check_ids(self, ids: tf.Tensor) -> tf.Operation:
        wrong = (ids < 0) | (ids >= self.size)
        return require(
            ~tf.reduce_any(wrong),
            f"ids must lie between 0 and {self.size - 1}. Received: id =",
            tf.boolean_mask(ids, wrong),
        )
