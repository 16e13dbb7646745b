"""A package that is there before its `__init__` has run."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from zoo.command_line import library


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package whose `__init__` and module count how often they have run."""
    folder = tmp_path / "heavy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("import sys\nsys.runs.append('package')\nvalue = 3\n")
    (folder / "light.py").write_text("import sys\nsys.runs.append('light')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "runs", [], raising=False)
    yield "heavy_package"
    for name in [name for name in sys.modules if name.startswith("heavy_package")]:
        del sys.modules[name]


def test_its_modules_are_imported_without_it_until_it_is_loaded(package):
    library.defer(package)
    import heavy_package.light

    assert sys.runs == ["light"]
    library.load(package)
    library.load(package)
    assert sys.runs == ["light", "package"]
    assert (heavy_package.value, heavy_package.light.__name__) == (3, "heavy_package.light")
    with pytest.raises(AttributeError, match="nothing"):
        _ = heavy_package.nothing


def test_modules_that_need_each_other_are_imported_without_it(package):
    """As those of the library do; to run the package in the middle of `first` would need `first`."""
    folder = Path(importlib.util.find_spec(package).origin).parent
    (folder / "__init__.py").write_text("from heavy_package.first import Name\n")
    (folder / "first.py").write_text("from heavy_package import second\nName = second.value\n")
    (folder / "second.py").write_text("value = 5\n")
    importlib.invalidate_caches()
    library.defer(package)
    from heavy_package.first import Name

    assert Name == 5 and "Name" not in vars(sys.modules[package])
    from heavy_package import Name as again

    assert again == 5


def test_and_when_something_of_it_is_asked_for(package):
    library.defer(package)
    from heavy_package import value

    assert (value, sys.runs) == (3, ["package"])


def test_one_that_is_there_stays_as_it_is(package):
    import heavy_package

    library.defer(package)
    assert (sys.modules[package], sys.runs) == (heavy_package, ["package"])


def test_one_that_cannot_be_imported_says_so(package):
    sys.runs = None
    library.defer(package)
    with pytest.raises(AttributeError, match="append"):
        library.load(package)
