"""What the README shows is true: its example runs, its commands and names exist."""

import pathlib
import re

import pytest

import zoo

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["logits"].shape == (4, 20, 50)


def test_presets_named_in_it_exist():
    named = set(re.findall(r"--preset=(\w+)", README)) | set(re.findall(r'from_preset\("(\w+)"', README))
    assert named
    assert named <= set(zoo.preset_names())


def test_no_document_has_a_place_left_to_fill_in():
    for path in (ROOT / "README.md", ROOT / "BUILD.md", *(ROOT / "docs").glob("*.md")):
        assert not re.findall(r"@[A-Z0-9]+@|TODO|TBD", path.read_text(encoding="utf-8")), path


def test_presets_and_benchmarks_named_in_the_documents_exist():
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for module in re.findall(r"python -m benchmarks\.(\w+)", text):
            assert (ROOT / "benchmarks" / f"{module}.py").exists()
        for preset in re.findall(r"`((?:ptb|demo|text)_\w+?)`", text):
            assert preset in zoo.preset_names()


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_the_python_examples_of_the_documents_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for example in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(compile(example, path.name, "exec"), names)
