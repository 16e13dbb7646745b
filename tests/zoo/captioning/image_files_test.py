"""Image files in a graph: the pixels that the library sees, or a refusal that names what is not accepted."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from captioning_models import pixels, png
from PIL import Image

from zoo.captioning.image_files import _decode
from zoo.data.photos import decode

SIDE = 16
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # By the colour type of a PNG.


@pytest.fixture(scope="module")
def seen():
    """What an export makes of a file."""
    spec = [tf.TensorSpec([], tf.string)]
    return tf.function(
        lambda content: _decode(content, tf.constant(0)), input_signature=spec, autograph=False
    )


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_png(colours, bits, *extra):
    """A PNG of noise of any colour type and depth, the first pixels of which are all alike."""
    rows = np.random.default_rng(bits).integers(
        0, 256, [SIDE, SIDE * CHANNELS[colours] * bits // 8], np.uint8
    )
    rows[0] = 7
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, bits, colours, 0, 0, 0))
    chunks = b"".join(chunk(*one) for one in extra) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + chunks


def palette(bits):
    generator = np.random.default_rng(1)
    return [
        (kind, generator.integers(0, 256, size * 2**bits, np.uint8).tobytes())
        for kind, size in ((b"PLTE", 3), (b"tRNS", 1))
    ]


def smooth():
    ramp = 2 * np.arange(40)[:, None] + np.arange(40)
    return np.stack([ramp, ramp + 40, ramp + 90], axis=-1).astype(np.uint8)


def saved(form, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(smooth()).convert(mode).save(file, form, **options)
    return file.getvalue()


def turned(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(form, exif=exif)


def xmp(orientation):
    return f'<x:xmpmeta tiff:Orientation="{orientation}"/>'.encode()


def wide(content):
    """A GIF whose picture is wider than its first frame."""
    return content[:6] + struct.pack("<H", 60) + content[8:]


SAME = {
    **{f"grey, {bits} bits": raw_png(0, bits) for bits in (1, 2, 4, 8, 16)},
    **{f"grey, {bits} bits, a transparent one": raw_png(0, bits, (b"tRNS", b"\x07\x07")) for bits in (8, 16)},
    **{f"colours, {bits} bits": raw_png(2, bits) for bits in (8, 16)},
    "colours, a transparent one": raw_png(2, 8, (b"tRNS", b"\0\7\0\7\0\7")),
    **{f"palette, {bits} bits": raw_png(3, bits, palette(bits)[0]) for bits in (1, 4, 8)},
    **{f"transparent palette, {bits} bits": raw_png(3, bits, *palette(bits)) for bits in (2, 8)},
    **{f"grey and alpha, {bits} bits": raw_png(4, bits) for bits in (8, 16)},
    **{f"colours and alpha, {bits} bits": raw_png(6, bits) for bits in (8, 16)},
    **{f"{form}, orientation {one}": turned(one, form) for form in ("PNG", "JPEG") for one in range(1, 9)},
    "JPEG, big-endian EXIF": saved(
        "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    ),
    "JPEG, damaged EXIF": saved("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"),
    "JPEG, EXIF before XMP": saved("JPEG", exif=turned(3, "JPEG")[24:52], xmp=xmp(1)),
    "JPEG, upright in XMP": saved("JPEG", xmp=xmp(1)),
    "JPEG, grey": saved("JPEG", "L"),
    "JPEG, CMYK": saved("JPEG", "CMYK"),
    "JPEG, progressive": saved("JPEG", progressive=True),
    "GIF": saved("GIF", "P"),
    "GIF, animated": saved("GIF", "P", save_all=True, append_images=[Image.new("P", (40, 40))]),
    "BMP": saved("BMP"),
    "BMP, 32 bits": saved("BMP", "RGBA"),
}


@pytest.mark.parametrize("name", SAME)
def test_pixels_are_those_that_the_library_sees(name, seen):
    expected, found = decode(SAME[name], name), seen(SAME[name]).numpy()
    assert found.shape == expected.shape
    # The two may have other versions of libjpeg.
    assert np.abs(found.astype(int) - expected).max() <= (2 if name.startswith("JPEG") else 0)


def transparent_gif():
    return saved("GIF", "P", transparency=int(np.asarray(Image.fromarray(smooth()).convert("P"))[0, 0]))


REFUSED = {
    "a transparent GIF": (transparent_gif(), "GIF files with transparency"),
    "a GIF with a small frame": (
        wide(saved("GIF", "P")),
        "GIF files with transparency, or a first frame smaller",
    ),
    "a BMP of one bit": (saved("BMP", "1"), "BMP files of other than 24 or 32"),
    "a BMP with a palette": (saved("BMP", "P"), "BMP files of other than 24 or 32"),
    "a JPEG turned in XMP": (saved("JPEG", xmp=xmp(6)), "images that XMP data say are turned"),
    "a PNG with EXIF as text": (
        raw_png(2, 8, (b"tEXt", b"Raw profile type exif\0\nexif\n0\n")),
        "PNG files with EXIF data as text",
    ),
    "a WebP": (saved("WEBP"), "must be JPEG, PNG, GIF or BMP"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_seen_otherwise_is_refused(name, seen):
    content, message = REFUSED[name]
    assert decode(content, name).shape[2] == 3  # The library reads it.
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        seen(content)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_file_that_is_cut_short_ends_with_an_error(form, seen):
    content = png(pixels(1, 40)[0], form=form)
    for size in (12, 30, len(content) // 2):
        with pytest.raises(tf.errors.InvalidArgumentError):
            seen(content[:size])
