"""Image files inside an exported model: from their bytes to the pixels that an encoder takes."""

from __future__ import annotations

import tensorflow as tf

from tfp_bayesrnn.export.saved_model import require
from zoo.captioning.batches import fit

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_OTHERS = (b"GIF87a", b"GIF89a", b"BM")


def decode_images(contents: tf.Tensor, size: int) -> tf.Tensor:
    """Image files, string [N], as images uint8 [N, S, S, 3], resized as for training.

    JPEG, PNG, GIF (the first frame) and BMP. They are decoded by TensorFlow, training's photos by Pillow: the
    pixels are the same, save that a JPEG's may differ by a level or two where the two have other versions of
    libjpeg; transparent PNGs are laid over white by both. EXIF orientation is not applied: turn such photos
    before.
    """
    size_of = tf.TensorSpec([size, size, 3], tf.uint8)
    places = tf.range(tf.size(contents))
    return tf.map_fn(
        lambda one: _decode(one[0], one[1], size), (contents, places), fn_output_signature=size_of
    )


def _decode(content: tf.Tensor, place: tf.Tensor, size: int) -> tf.Tensor:
    def starts_with(magic: bytes) -> tf.Tensor:
        return tf.strings.substr(content, 0, len(magic)) == magic

    is_jpeg, is_png = starts_with(_JPEG), starts_with(_PNG)
    is_other = tf.reduce_any([starts_with(magic) for magic in _OTHERS])
    known = require(
        is_jpeg | is_png | is_other,
        "images must be JPEG, PNG, GIF or BMP files. Received something else at place",
        place,
    )
    with tf.control_dependencies([known]):
        content = tf.identity(content)
    pixels = tf.case(
        [
            # Pillow's decoder does this too: TensorFlow's default is a faster, less accurate transform.
            (is_jpeg, lambda: tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")),
            (is_png, lambda: _png(content)),
        ],
        default=lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
    )
    return fit(tf.ensure_shape(pixels, [None, None, 3]), size)


def _png(content: tf.Tensor) -> tf.Tensor:
    """The pixels of a PNG [H, W, 3], over white."""
    pixels = tf.io.decode_png(content, channels=4)
    colours, alpha = tf.cast(pixels[:, :, :3], tf.int32), tf.cast(pixels[:, :, 3:], tf.int32)
    # For an opaque file with n < 8 bits a sample, TensorFlow gives an alpha of 2^n - 1, not 255.
    bits = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 24, 1), tf.uint8), tf.int32)
    is_opaque = tf.reduce_all((bits < 8) & (alpha == tf.bitwise.left_shift(1, bits) - 1))
    alpha = tf.where(is_opaque, 255, alpha)
    return tf.cast((colours * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)
