import gc
import io
import os
import struct
import tarfile
import threading
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tfp_bayesrnn.errors import InputError
from zoo.data import photos as module
from zoo.data.photo_search import find_photos
from zoo.data.photos import PhotoBytes, PhotoFiles, PhotoSelection, PhotoTar, PhotoZip, decode


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(height=6, width=4, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, [height, width, channels], np.uint8)


def smooth(height=24, width=16):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 10, columns * 15, 255 - rows * 5], -1).astype(np.uint8)


def tar(path, members):
    """An archive of (name, content) or (name, type, link)."""
    with tarfile.open(path, "w") as archive:
        for name, *what in members:
            member = tarfile.TarInfo(name)
            if len(what) == 1:
                member.size = len(what[0])
                archive.addfile(member, io.BytesIO(what[0]))
            else:
                member.type, member.linkname = what
                archive.addfile(member)
    return path


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


CONTENTS = {"a.jpg": b"first", "b.png": b"", "c.JPEG": b"third" * 1000}


@pytest.mark.parametrize("kind", ["files", "tar", "zip", "bytes", "selection"])
def test_every_kind_of_collection(tmp_path, kind):
    members = [(f"photos/{name}", content) for name, content in CONTENTS.items()]
    noise = [("photos/README.txt", b"text"), ("photos/._a.jpg", b"macOS")]
    if kind == "files":
        for name, content in CONTENTS.items():
            (tmp_path / name).write_bytes(content)
        found = PhotoFiles([tmp_path / name for name in CONTENTS])
    elif kind == "tar":
        found = PhotoTar(tar(tmp_path / "photos.tar", noise + members))
    elif kind == "zip":
        found = PhotoZip(zipped(tmp_path / "photos.zip", noise + members))
    elif kind == "bytes":
        found = PhotoBytes(list(CONTENTS), list(CONTENTS.values()))
    else:
        backwards = PhotoBytes(list(CONTENTS)[::-1], list(CONTENTS.values())[::-1])
        found = PhotoSelection([(backwards, 2), (PhotoBytes(["b.png"], [b""]), 0), (backwards, 0)])
    assert len(found) == 3
    assert [found.read(index) for index in range(3)] == list(CONTENTS.values())
    assert [found.name(index).rpartition("/")[2] for index in range(3)] == list(CONTENTS)


@pytest.mark.parametrize(("make", "write"), [(PhotoTar, tar), (PhotoZip, zipped)])
def test_members_come_in_the_order_asked_for(tmp_path, make, write):
    path = write(tmp_path / "archive", [("x/1.jpg", b"one"), ("x/2.jpg", b"two"), ("x/3.jpg", b"three")])
    found = make(path, ["x/3.jpg", "x/1.jpg"])
    assert [found.read(index) for index in range(len(found))] == [b"three", b"one"]
    assert found.name(0) == f"{path}:x/3.jpg"
    with pytest.raises(InputError, match=r"archive has no member 'x/4\.jpg'"):
        make(path, ["x/4.jpg"])


@pytest.mark.parametrize("make", [PhotoTar, PhotoZip])
def test_many_threads_may_read_at_once(tmp_path, make):
    members = [(f"{number}.jpg", bytes([number]) * (500 + number)) for number in range(100)]
    found = make((tar if make is PhotoTar else zipped)(tmp_path / "archive", members))
    wrong = []

    def read(start):
        for step in range(300):
            number = (start + step * 7) % 100
            if found.read(number) != members[number][1]:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=[start]) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.slow
def test_an_archive_is_closed_with_its_photos(tmp_path):
    found = PhotoTar(tar(tmp_path / "photos.tar", [("a.jpg", b"a")]))
    opened = found._file
    os.fstat(opened)
    del found
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(opened)


@pytest.mark.parametrize(
    "member",
    [
        ("../a.jpg", b"outside"),
        ("x/../../a.jpg", b"outside"),
        ("/tmp/a.jpg", b"outside"),
        ("a.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        ("a.jpg", tarfile.LNKTYPE, "b.jpg"),
        ("a.jpg", tarfile.DIRTYPE, ""),
        ("a.jpg", tarfile.FIFOTYPE, ""),
    ],
)
def test_members_that_are_no_files_inside_are_refused(tmp_path, member):
    path = tar(tmp_path / "photos.tar", [("b.jpg", b"fine"), member])
    for members in (None, [member[0]]):
        with pytest.raises(InputError, match="refused: not a plain file"):
            PhotoTar(path, members)
    assert PhotoTar(path, ["b.jpg"]).read(0) == b"fine"


def test_zip_members_that_are_no_files_inside_are_refused(tmp_path, monkeypatch):
    link = zipfile.ZipInfo("a.jpg")
    link.external_attr = 0o120777 << 16
    for member in (link, "../a.jpg", "/a.jpg", "a.jpg/"):
        path = zipped(tmp_path / "photos.zip", [("b.jpg", b"fine"), (member, b"")])
        with pytest.raises(InputError, match="refused: not a plain file"):
            PhotoZip(path)
        assert PhotoZip(path, ["b.jpg"]).read(0) == b"fine"
    monkeypatch.setattr(module, "_MAX_UNPACKED_BYTES", 3)
    with pytest.raises(InputError, match=r"'b\.jpg' is refused: 4 bytes, accepted at most 3"):
        PhotoZip(path, ["b.jpg"])


def test_archives_that_cannot_be_used(tmp_path):
    whole = tar(tmp_path / "whole.tar", [("a.jpg", os.urandom(5000)), ("b.jpg", os.urandom(5000))])
    cut = tmp_path / "cut.tar"
    for length in (7000, 3000):
        cut.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(InputError, match=r"cut\.tar (ends within|is not a readable)"):
            PhotoTar(cut)
    compressed = tmp_path / "packed.tar"
    with tarfile.open(compressed, "w:gz") as archive:
        archive.add(whole, "a.jpg")
    for path in (compressed, tmp_path / "absent.tar"):
        with pytest.raises(InputError, match=r"not a readable, uncompressed \.tar archive"):
            PhotoTar(path)
        with pytest.raises(InputError, match=r"not a readable \.zip archive"):
            PhotoZip(path)
    opened = PhotoTar(whole)
    os.truncate(whole, 4000)
    with pytest.raises(InputError, match=r"whole\.tar:a\.jpg: the archive was cut short"):
        opened.read(0)
    path = zipped(tmp_path / "damaged.zip", [("a.jpg", b"a" * 500)])
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"cannot read photo .*damaged\.zip:a\.jpg"):
        PhotoZip(path).read(0)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none\.jpg: No such file"):
        PhotoFiles([tmp_path / "none.jpg"]).read(0)
    with pytest.raises(ValueError, match=r"Received: len\(names\)=1, len\(contents\)=0"):
        PhotoBytes(["a"], [])


def test_a_search_finds_folders_and_archives(tmp_path):
    for place in ("c.jpg", "zebra/a.jpg", "alpha/a.jpg", "images/train2014/b.png", ".hidden/d.jpg"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(place.encode())
    tar(tmp_path / "photos.tar", [("t/a.jpg", b"tar"), ("t/e.jpg", b"tar")])
    zipped(tmp_path / "images" / "photos.zip", [("z/e.jpg", b"zip"), ("z/f.gif", b"zip")])
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "folder.jpg").mkdir()

    def contents(**options):
        return {
            name: photos.read(index) for name, (photos, index) in find_photos(tmp_path, **options).items()
        }

    found = contents()
    assert set(found) == {"a.jpg", "b.png", "c.jpg", "e.jpg", "f.gif"}
    assert found["a.jpg"] == b"alpha/a.jpg"
    assert found["b.png"] == b"images/train2014/b.png" and found["f.gif"] == b"zip"
    assert contents(first=("zebra",))["a.jpg"] == b"zebra/a.jpg"


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_give_their_pixels(form, options):
    image = pixels()
    found = decode(encoded(Image.fromarray(image), form, **options), "x")
    np.testing.assert_array_equal(found, image)
    assert found.dtype == np.uint8 and found.flags.c_contiguous


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpeg(options):
    image = smooth()
    found = decode(encoded(Image.fromarray(image), "JPEG", quality=95, **options), "x")
    assert np.abs(found.astype(int) - image).mean() < 3


def test_grey_palette_and_bits():
    grey = pixels(channels=1)[:, :, 0]
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(grey)), "x"), np.stack([grey] * 3, -1))
    bits = Image.fromarray(grey > 100)
    np.testing.assert_array_equal(decode(encoded(bits), "x")[:, :, 1], np.where(grey > 100, 255, 0))
    paletted = Image.fromarray(pixels() // 64 * 64).convert("P", palette=Image.Palette.ADAPTIVE)
    for form in ("PNG", "GIF", "BMP"):
        np.testing.assert_array_equal(
            decode(encoded(paletted, form), "x"), np.asarray(paletted.convert("RGB"))
        )


def test_sixteen_bits_keep_their_range():
    grey = np.array([[0, 128, 256, 32_768], [40_000, 65_279, 65_407, 65_535]], np.uint16)
    expected = np.round(grey / 65_535 * 255)
    found = decode(encoded(Image.fromarray(grey)), "x")
    np.testing.assert_array_equal(found, np.stack([expected] * 3, -1))
    see_through = decode(encoded(Image.fromarray(grey), transparency=40_000), "x")
    assert (see_through[1, 0] == 255).all() and (see_through[0] == found[0]).all()


def png(width, height, rows, depth=8, colour=2):
    """A PNG file written by hand: Pillow writes no 16-bit colour, and no untrue sizes."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_sixteen_bit_colour():
    values = [0, 30_000, 65_535, 65_535, 300, 10_000]
    rows = b"\0" + struct.pack(">6H", *values)
    found = decode(png(2, 1, rows, depth=16), "x")
    assert np.abs(found.reshape(-1) - np.array(values) / 257).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparency_is_laid_over_white(form):
    image = pixels(channels=4)
    image[0, 0, 3], image[0, 1, 3] = 0, 255
    found = decode(
        encoded(Image.fromarray(image), form, **({"lossless": True} if form == "WEBP" else {})), "x"
    )
    share = image[:, :, 3:] / 255
    expected = image[:, :, :3] * share + 255 * (1 - share)
    assert np.abs(found - expected).max() <= 1.5
    assert (found[0, 0] == 255).all() and (found[0, 1] == image[0, 1, :3]).all()


def test_transparency_of_palettes_and_grey():
    paletted = Image.new("P", (2, 1))
    paletted.putpalette([10, 20, 30, 40, 50, 60])
    paletted.putpixel((1, 0), 1)
    for form in ("PNG", "GIF"):
        found = decode(encoded(paletted, form, transparency=0), "x")
        assert found.tolist() == [[[255, 255, 255], [40, 50, 60]]]
    grey = Image.new("LA", (2, 1), (100, 0))
    grey.putpixel((1, 0), (100, 255))
    assert decode(encoded(grey), "x").tolist() == [[[255] * 3, [100] * 3]]
    assert decode(encoded(Image.new("RGB", (1, 1), (9, 8, 7)), transparency=(9, 8, 7)), "x").min() == 255


def test_cmyk_becomes_rgb():
    image = Image.fromarray(smooth()).convert("CMYK")
    found = decode(encoded(image, "JPEG", quality=95), "x")
    assert np.abs(found.astype(int) - np.asarray(image.convert("RGB"))).mean() < 4


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_stands_for_an_animation(form):
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=50, **options)
    assert (decode(content, "x") == [255, 0, 0]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_the_exif_orientation_is_applied(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(smooth()), form, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    found = decode(content, "x")
    np.testing.assert_array_equal(found, np.asarray(upright))
    assert found.shape == ((16, 24, 3) if orientation >= 5 else (24, 16, 3))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
def test_a_picture_with_damaged_exif_data_is_read_as_it_stands(exif):
    content = encoded(Image.fromarray(smooth()), "JPEG", exif=exif)
    assert decode(content, "x").shape == (24, 16, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_refused(form, share):
    content = encoded(Image.fromarray(pixels(60, 60)), form)
    with pytest.raises(InputError, match=r"holiday\.jpg is no readable image.*accepted: JPEG, PNG"):
        decode(content[: int(share * len(content))], "holiday.jpg")


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>not found</html>", os.urandom(1000), b"\xff\xd8\xff\xe0" + b"\0" * 100, b"%PDF-1.4"],
)
def test_other_files_are_refused(content):
    with pytest.raises(InputError, match=r"x\.jpg is no readable image.*accepted: JPEG, PNG"):
        decode(content, "x.jpg")
    with pytest.raises(InputError, match="is no readable image"):
        decode(encoded(Image.new("RGB", (3, 3)), "TIFF"), "x.tif")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bombs_are_refused(side):
    with pytest.raises(InputError, match=r"bomb\.png is refused: .*accepted at most 89478485 pixels"):
        decode(png(side, side, b"\0" * 100), "bomb.png")
    assert decode(png(1, 1, b"\0\1\2\3"), "x").tolist() == [[[1, 2, 3]]]
