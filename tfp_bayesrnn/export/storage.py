"""Arrays of an exported model: as they are, in half precision, or without their zeros.

An array that is not stored as it is takes little room in the file, and is made whole once, when the model is
loaded, by an initialiser that TensorFlow runs as it does those of lookup tables, in Python, in C++ and in TF
Serving alike. So a call costs nothing more, and the memory is that of both forms.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

FORMATS = ("float32", "float16")
"""The dtypes that the values of weights are stored in."""


class StoredArray(tf.Module):
    """An array that is read as it was given, up to the rounding of its format.

    Where it takes less room, it is stored as a bitmask of the places that are not zero, with the values of
    those only: the n values of which k are not zero take n / 8 + 4 k bytes in float32. n booleans take n / 8.

    Attributes:
      nbytes: the size of the array in a file, in bytes.
      is_sparse: whether its zeros are left out.
      stored_dtype: the dtype of its values in the file.
    """

    def __init__(self, array: np.ndarray, format: str = "float32", name: str = "array"):
        """Makes its variables.

        Args:
          array: the array, of any shape; one that is not of floating point is stored as it is.
          format: "float32", or "float16" for arrays that half precision can hold: one that would overflow in
            it stays float32.
          name: the name of its variables.

        Raises:
          ValueError: if `format` is another.
        """
        super().__init__(name=name)
        if format not in FORMATS:
            raise ValueError(f"format must be one of {FORMATS}. Received: format={format!r}")
        array = np.asarray(array)
        self.shape = array.shape
        values = _as_stored(array, format)
        self.stored_dtype = values.dtype.name
        places = np.flatnonzero(values) if array.dtype != bool else np.zeros(0, np.int64)
        sparse_bytes = -(-values.size // 8) + places.size * values.dtype.itemsize
        self.is_sparse = array.dtype in (np.float32, bool) and sparse_bytes < values.nbytes
        self.nbytes = sparse_bytes if self.is_sparse else values.nbytes
        self._expanded = self._bits = None
        if self.is_sparse:
            bits = np.packbits(values.ravel() != 0)
            self._bits = tf.Variable(bits, trainable=False, name=f"{name}_bits")
            values = values.ravel()[places]
        self._values = tf.Variable(values, trainable=False, name=f"{name}_values")
        if self.is_sparse or values.dtype != array.dtype:
            self._expanded = _Expanded(self._whole, self.shape, tf.as_dtype(array.dtype))
            self._expanded._initialize()

    def read(self) -> tf.Tensor:
        """The array, in the type it was given in."""
        if self._expanded is None:
            return tf.convert_to_tensor(self._values)
        return self._expanded.read()

    def _whole(self) -> tf.Tensor:
        """The array in the type it was given in, made from what is stored."""
        if not self.is_sparse:
            return tf.cast(self._values, tf.float32)
        size = int(np.prod(self.shape, dtype=np.int64))
        shifts = tf.constant([7, 6, 5, 4, 3, 2, 1, 0], tf.uint8)
        bits = tf.bitwise.right_shift(tf.convert_to_tensor(self._bits)[:, tf.newaxis], shifts)
        is_set = tf.reshape(tf.bitwise.bitwise_and(bits, tf.constant(1, tf.uint8)), [-1])[:size] > 0
        if self._values.dtype == tf.bool:
            return tf.reshape(is_set, self.shape)
        values = tf.cast(self._values, tf.float32)
        flat = tf.scatter_nd(tf.where(is_set), values, tf.constant([size], tf.int64))
        return tf.reshape(flat, self.shape)


def _as_stored(array: np.ndarray, format: str) -> np.ndarray:
    if format != "float16" or array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        halves = array.astype(np.float16)
    return halves if np.isfinite(halves).all() else array


class _Expanded(tf.saved_model.experimental.TrackableResource):
    """An array in memory that is made when the model is loaded, and not stored in it.

    Its name is unique to an export, so loading one export twice in a process shares the array, as it shares
    lookup tables, and like those it stays until the process ends.
    """

    def __init__(self, make: Callable[[], tf.Tensor], shape: Sequence[int], dtype: tf.DType):
        super().__init__()
        self._dtype = dtype
        self._make = make
        self._shape = shape
        self._shared_name = f"expanded_{uuid.uuid4()}"

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(dtype=self._dtype, shape=self._shape, shared_name=self._shared_name)

    def _initialize(self) -> None:
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=self._make())

    def read(self) -> tf.Tensor:
        """The array."""
        value = tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=self._dtype)
        return tf.ensure_shape(value, self._shape)
