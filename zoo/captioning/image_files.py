"""Image files inside an exported model: from their bytes to the pixels that an encoder takes."""

from __future__ import annotations

import tensorflow as tf

from tfp_bayesrnn.export.saved_model import require
from zoo.captioning import image_headers as headers
from zoo.captioning.batches import fit

_JPEG, _PNG, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
_GIFS = (b"GIF87a", b"GIF89a")


def decode_images(contents: tf.Tensor, size: int, interpolation: str = "bilinear") -> tf.Tensor:
    """Image files, string [N], as images uint8 [N, S, S, 3], resized as for training.

    They are decoded by TensorFlow, training's photos by Pillow, and the pixels are the same, save that a
    JPEG's may differ by a level or two where the two have other versions of libjpeg. JPEG and PNG files are
    turned as their EXIF data say, transparent PNGs are laid over white. What TensorFlow would show otherwise
    is refused by name: GIF files with a transparent colour or a first frame that does not cover the picture,
    BMP files of other than 24 or 32 plain bits a pixel, and files that are turned by XMP data alone, or may
    be by data that are compressed.
    """
    size_of = tf.TensorSpec([size, size, 3], tf.uint8)
    places = tf.range(tf.size(contents))
    return tf.map_fn(
        lambda one: fit(_decode(one[0], one[1]), size, interpolation),
        (contents, places),
        fn_output_signature=size_of,
    )


def _decode(content: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """The pixels of a file [H, W, 3]."""

    def starts_with(magic: bytes) -> tf.Tensor:
        return tf.strings.substr(content, 0, len(magic)) == magic

    is_jpeg, is_png, is_bmp = starts_with(_JPEG), starts_with(_PNG), starts_with(_BMP)
    is_gif = tf.reduce_any([starts_with(magic) for magic in _GIFS])
    known = require(
        is_jpeg | is_png | is_gif | is_bmp,
        "images must be JPEG, PNG, GIF or BMP files. Received something else at place",
        place,
    )
    with tf.control_dependencies([known]):
        content = tf.identity(content)
    # Pillow's decoder does this too: TensorFlow's default is a faster, less accurate transform.
    cases = [
        (is_jpeg, lambda: _jpeg(content, place)),
        (is_png, lambda: _png(content, place)),
        (is_gif, lambda: _gif(content, place)),
    ]
    return tf.ensure_shape(tf.case(cases, default=lambda: _bmp(content, place)), [None, None, 3])


def _checked(content: tf.Tensor, is_accepted: tf.Tensor, message: str, place: tf.Tensor) -> tf.Tensor:
    """The content, behind a check."""
    with tf.control_dependencies([require(is_accepted, f"{message}. Received one at place", place)]):
        return tf.identity(content)


def _jpeg(content: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    data = headers.bytes_of(content)
    orientation = headers.exif_orientation(data, headers.jpeg_exif(data))
    content = _upright_in_xmp(content, orientation, place)
    pixels = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
    return headers.turned(pixels, orientation)


def _upright_in_xmp(content: tf.Tensor, orientation: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """The content, unless it is XMP data alone that say that the picture is turned."""
    is_upright = (orientation > 0) | headers.xmp_is_upright(content)
    return _checked(
        content, is_upright, "images that XMP data say are turned are not accepted: turn them", place
    )


def _png(content: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """The pixels of a PNG, over white."""
    data = headers.bytes_of(content)
    orientation = headers.exif_orientation(data, headers.png_exif(data))
    content = _upright_in_xmp(content, orientation, place)
    is_hidden = headers.has(content, b"Raw profile type exif") | headers.has(
        content, b"XML:com.adobe.xmp\0\1"
    )
    message = "PNG files with EXIF data as text, or compressed XMP data, are not accepted: save them without"
    content = _checked(content, ~is_hidden, message, place)
    bits, colours = headers.number(data, 24, 1), headers.number(data, 25, 1)
    is_deep_grey = (bits == 16) & (colours == 0)
    pixels = tf.cond(is_deep_grey, lambda: _deep_grey(content), lambda: _over_white(content, bits))
    return headers.turned(pixels, orientation)


def _over_white(content: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    pixels = tf.io.decode_png(content, channels=4)
    colours, alpha = tf.cast(pixels[:, :, :3], tf.int32), tf.cast(pixels[:, :, 3:], tf.int32)
    # For an opaque file with n < 8 bits a sample, TensorFlow gives an alpha of 2^n - 1, not 255.
    is_opaque = tf.reduce_all((bits < 8) & (alpha == tf.bitwise.left_shift(1, bits) - 1))
    alpha = tf.where(is_opaque, 255, alpha)
    return tf.cast((colours * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _deep_grey(content: tf.Tensor) -> tf.Tensor:
    """The pixels of a grey PNG of 16 bits, rounded to 8, white where they are transparent."""
    pixels = tf.cast(tf.io.decode_png(content, channels=4, dtype=tf.uint16), tf.int32)
    grey = tf.where(pixels[:, :, 3:] == 0, 65_535, pixels[:, :, :1])
    return tf.repeat(tf.cast((grey * 255 + 32_767) // 65_535, tf.uint8), 3, axis=2)


def _gif(content: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    is_plain = headers.gif_is_plain(headers.bytes_of(content))
    message = "GIF files with transparency, or a first frame smaller than the picture, are not accepted"
    content = _checked(content, is_plain, message, place)
    content = _upright_in_xmp(content, tf.constant(0), place)
    return tf.io.decode_image(content, channels=3, expand_animations=False)


def _bmp(content: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    is_plain = headers.bmp_is_plain(headers.bytes_of(content))
    message = "BMP files of other than 24 or 32 uncompressed bits a pixel are not accepted"
    pixels = tf.io.decode_bmp(_checked(content, is_plain, message, place))
    return pixels[:, :, :3]
