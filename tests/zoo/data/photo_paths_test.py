import os

import pytest

from tfp_bayesrnn.errors import InputError
from zoo.data.photo_paths import photo_paths


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with photos and what is none."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "p/b.png",
        "p/a.JPG",
        "p/notes.txt",
        "p/.c.png",
        "p/deep/d.gif",
        "x.png",
        "y[1].png",
        "u,v.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "u,v.png").touch()
    (tmp_path / "p" / "z.png").mkdir()
    (tmp_path / "none").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        (["x.png"], ["x.png"]),
        (["p"], ["p/a.JPG", "p/b.png"]),
        (["p/"], ["p/a.JPG", "p/b.png"]),
        (["p/deep", "x.png"], ["p/deep/d.gif", "x.png"]),
        (["x.png,p/deep"], ["x.png", "p/deep/d.gif"]),
        (["x.png,"], ["x.png"]),
        (["x.png", "x.png,p", "p/b.png"], ["x.png", "p/a.JPG", "p/b.png"]),
        (["p/*"], ["p/a.JPG", "p/b.png", "p/notes.txt"]),
        (["**/?.gif"], ["p/deep/d.gif"]),
        (["p/notes.txt"], ["p/notes.txt"]),
        # What exists is no pattern and no list.
        (["y[1].png"], ["y[1].png"]),
        (["u,v.png"], ["u,v.png"]),
    ],
)
def test_paths(folder, arguments, paths):
    assert photo_paths(arguments) == paths


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("nothing.png", "--images=nothing.png does not exist"),
        ("x.png,nothing.png", "--images=nothing.png does not exist"),
        ("x.png, p", "--images= p does not exist"),
        ("p/*.bmp", "--images=p/*.bmp matches no file"),
        ("non[e]", "--images=non[e] matches no file"),
        ("none", "--images=none has no photo directly inside it; accepted: files that end in .bmp, .gif"),
        ("", "--images= names no photo"),
        (",", "--images=, names no photo"),
    ],
)
def test_what_leads_to_no_photo(folder, argument, said):
    with pytest.raises(InputError) as caught:
        photo_paths(["x.png", argument])
    assert str(caught.value).startswith(said)


def test_dangling_link(folder):
    os.symlink("nowhere", "link.png")
    with pytest.raises(InputError, match=r"--images=link\.png does not exist"):
        photo_paths(["link.png"])


def test_directory_that_cannot_be_read(folder, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(InputError, match="--images=p cannot be read: Permission denied"):
        photo_paths(["p"])
