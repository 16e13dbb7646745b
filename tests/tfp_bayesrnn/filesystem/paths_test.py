"""Paths as people give them."""

import os
from pathlib import Path

import pytest
from odd_names import ODD_NAMES

from tfp_bayesrnn import ExactResume
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import check_regular, local_path, plain
from tfp_bayesrnn.loop.checkpoints import Checkpoints

REFUSED = {
    "": "it is empty",
    b"": "it is empty",
    "a\0b": "NUL",
    "gs://bucket/run": "it is an address",
    "file:///tmp/run": "it is an address",
    "a\udcff": "not UTF-8",
    b"a\xff": "not UTF-8",
    "~nobody_has_this_name/run": "no home ~nobody_has_this_name; a folder of that name is ./~nobody",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("~", ""),
        ("~/", ""),
        ("~/runs/a", "runs/a"),
        (b"~/runs/a", "runs/a"),
        (Path("~/runs/a"), "runs/a"),
        ("~/~", "~"),
    ],
)
def test_a_tilde_is_the_home_folder(home, given, expected):
    assert local_path(given) == home / expected


@pytest.mark.parametrize("given", ["./~", "./~/a", "./~nobody_has_this_name"])
def test_a_name_with_a_tilde_stays_one(home, given):
    once = local_path(given)
    assert once == Path.cwd() / given
    assert local_path(once) == once


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_left_alone(home, name):
    for path in (f"runs/{name}", f"runs/{name}/x", f"/{name}"):
        assert os.fspath(local_path(path)) == path


@pytest.mark.parametrize("given", [".", "..", "a/../b", "/", "relative/path", "a:b", "ü", "😀"])
def test_ordinary_paths_are_left_alone(home, given):
    assert os.fspath(local_path(given)) == given


@pytest.mark.parametrize(("given", "reason"), REFUSED.items(), ids=map(repr, REFUSED))
def test_what_is_no_path(given, reason):
    with pytest.raises(InputError, match=reason) as caught:
        local_path(given, "--workdir")
    assert str(caught.value).startswith("--workdir=")
    assert str(caught.value).isprintable()
    for make in (ExactResume, lambda path: Checkpoints(path, {})):
        with pytest.raises(InputError, match=f"^directory=.*{reason}"):
            make(given)


def test_no_home(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(InputError, match="there is no home ~"):
        local_path("~/run")


def test_a_plain_path_leads_to_the_same_folder(tmp_path):
    folder = tmp_path / "lr=[0.1]"
    folder.mkdir()
    (folder / "a").write_text("x")
    with plain(folder) as path:
        assert path != folder
        assert (path / "a").read_text() == "x"
    assert not path.exists()
    assert (folder / "a").exists()
    with plain(tmp_path) as path:
        assert path == tmp_path


def test_what_is_no_file(tmp_path):
    check_regular(tmp_path / "none")
    (tmp_path / "file").touch()
    check_regular(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        check_regular(tmp_path)
    for path, kind in {tmp_path / "pipe": "a named pipe", "/dev/null": "a device"}.items():
        with pytest.raises(OSError, match=f"it is {kind}, not a file"):
            check_regular(path)
