"""What the headers of image files say, read inside a graph: which way a picture is turned, what a file has.

Bytes are int32 vectors; a place outside of them reads as 0, as in a file that is cut short.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

_ORIENTATION = 0x0112  # The EXIF tag.
_SHORT, _LONG = 3, 4  # Types of its value.
_NOWHERE = -1


def bytes_of(content: tf.Tensor) -> tf.Tensor:
    """The bytes of a file, int32."""
    return tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int32)


def number(
    data: tf.Tensor, place: tf.Tensor | int, size: int, is_little: tf.Tensor | bool = False
) -> tf.Tensor:
    """The unsigned number of `size` bytes at a place, or at each of several; from 2^31 on it is negative."""
    places = tf.convert_to_tensor(place)[..., tf.newaxis] + tf.range(size)
    is_inside = (places >= 0) & (places < tf.size(data))
    found = tf.where(is_inside, tf.gather(tf.concat([data, [0]], 0), tf.where(is_inside, places, 0)), 0)
    powers = tf.range(size - 1, -1, -1)
    powers = tf.where(is_little, powers[::-1], powers)
    return tf.reduce_sum(tf.bitwise.left_shift(found, 8 * powers), axis=-1)


def says(data: tf.Tensor, place: tf.Tensor | int, text: bytes) -> tf.Tensor:
    """Whether a text stands at a place."""
    found = [tf.equal(number(data, place + offset, 1), byte) for offset, byte in enumerate(text)]
    return tf.reduce_all(tf.stack(found))


def has(content: tf.Tensor, text: bytes) -> tf.Tensor:
    """Whether a text is anywhere in a file."""
    return tf.size(tf.strings.split([content], text, maxsplit=1).values) > 1


def after(content: tf.Tensor, text: bytes, size: int) -> tf.Tensor:
    """The first bytes that follow a text; none where it is not in the file."""
    parts = tf.strings.split([content], text, maxsplit=1).values
    return tf.strings.substr(tf.concat([parts, [b""]], 0)[1], 0, size)


def jpeg_exif(data: tf.Tensor) -> tf.Tensor:
    """The place of a JPEG's EXIF data; -1 where it has none."""

    def goes_on(place: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        marker = number(data, place + 1, 1)
        # 0xDA begins the picture itself.
        return (found < 0) & (number(data, place, 1) == 0xFF) & (marker != 0xDA) & (place < tf.size(data))

    def next_segment(place: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        marker, length = number(data, place + 1, 1), number(data, place + 2, 2)
        is_filler = marker == 0xFF
        is_exif = (marker == 0xE1) & says(data, place + 4, b"Exif\0\0")
        after = place + tf.where(is_filler, 1, 2 + tf.maximum(length, 2))
        return after, tf.where(is_exif, place + 10, found)

    return _walked(goes_on, next_segment, 2)


def png_exif(data: tf.Tensor) -> tf.Tensor:
    """The place of a PNG's EXIF data; -1 where it has none."""

    def goes_on(place: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        return (found < 0) & (place >= 0) & (place < tf.size(data))

    def next_chunk(place: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length = number(data, place, 4)
        found = tf.where(says(data, place + 4, b"eXIf"), place + 8, found)
        return tf.where(length < 0, _NOWHERE, place + 12 + length), found

    return _walked(goes_on, next_chunk, 8)


def _walked(goes_on: Callable, step: Callable, first: int) -> tf.Tensor:
    found = tf.while_loop(goes_on, step, (tf.constant(first), tf.constant(_NOWHERE)), parallel_iterations=1)
    return found[1]


def exif_orientation(data: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation that stands in EXIF data at a place, 0 where there is none."""
    is_little = says(data, place, b"II*\0")
    is_exif = (place >= 0) & (is_little | says(data, place, b"MM\0*"))
    directory = place + number(data, place + 4, 4, is_little)
    entries = directory + 2 + 12 * tf.range(number(data, directory, 2, is_little))
    kinds = number(data, entries + 2, 2, is_little)
    short, long = (number(data, entries + 8, size, is_little) for size in (2, 4))
    values = tf.where(kinds == _SHORT, short, tf.where(kinds == _LONG, long, 0))
    is_it = (number(data, entries, 2, is_little) == _ORIENTATION) & is_exif
    return tf.reduce_max(tf.concat([tf.where(is_it, values, 0), [0]], 0))


def xmp_is_upright(content: tf.Tensor) -> tf.Tensor:
    """Whether a file has no XMP data that say that the picture is turned."""
    found = after(content, b"tiff:Orientation", 3)
    is_stated = tf.strings.regex_full_match(found, r'(="[0-9]|>[0-9].?)')
    return ~is_stated | (found == b'="1') | (tf.strings.substr(found, 0, 2) == b">1")


def turned(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """The upright picture of one that was stored in an EXIF orientation, [H, W, 3]."""

    def if_in(
        which: tuple[int, ...], change: Callable[[tf.Tensor], tf.Tensor], pixels: tf.Tensor
    ) -> tf.Tensor:
        is_one = tf.reduce_any(orientation == tf.constant(which))
        return tf.ensure_shape(tf.cond(is_one, lambda: change(pixels), lambda: pixels), [None, None, 3])

    pixels = if_in((5, 6, 7, 8), lambda image: tf.transpose(image, [1, 0, 2]), pixels)
    pixels = if_in((3, 4, 7, 8), lambda image: image[::-1], pixels)
    return if_in((2, 3, 6, 7), lambda image: image[:, ::-1], pixels)


def gif_is_plain(data: tf.Tensor) -> tf.Tensor:
    """Whether a GIF's first frame covers its picture and has no transparent colour."""
    flags = number(data, 10, 1)
    table = tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def goes_on(place: tf.Tensor, transparent: tf.Tensor) -> tf.Tensor:
        del transparent
        return number(data, place, 1) == 0x21  # An extension.

    def next_block(place: tf.Tensor, transparent: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        is_control = number(data, place + 1, 1) == 0xF9
        transparent = tf.where(is_control, number(data, place + 3, 1) % 2, transparent)
        place = tf.while_loop(
            lambda place: number(data, place, 1) > 0,
            lambda place: place + 1 + number(data, place, 1),
            [place + 2],
            parallel_iterations=1,
        )[0]
        return place + 1, transparent

    start = (13 + table, tf.constant(0))
    place, transparent = tf.while_loop(goes_on, next_block, start, parallel_iterations=1)
    corner = [number(data, place + offset, 2, True) for offset in (1, 3)]
    sizes = [number(data, place + offset, 2, True) for offset in (5, 7)]
    whole = [number(data, offset, 2, True) for offset in (6, 8)]
    covers = tf.reduce_all(tf.stack(corner) == 0) & tf.reduce_all(tf.stack(sizes) == tf.stack(whole))
    return covers & (transparent == 0)


def bmp_is_plain(data: tf.Tensor) -> tf.Tensor:
    """Whether a BMP has 24 or 32 bits a pixel, uncompressed, behind a header as Windows writes it."""
    header, bits = number(data, 14, 4, True), number(data, 28, 2, True)
    return (header >= 40) & ((bits == 24) | (bits == 32)) & (number(data, 30, 4, True) == 0)
