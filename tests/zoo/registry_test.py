"""The records of tasks and data sets: what they name is there, and reading them needs no TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from zoo import registry
from zoo.data import datasets
from zoo.later import later

ROOT = Path(registry.__file__).parent.parent
RECORDS = {**registry.TASKS, **datasets.CORPORA, **datasets.CAPTION_SETS, **datasets.SERIES_SETS}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_what_a_record_imports_later_is_there(record):
    values = record._asdict() if hasattr(record, "_asdict") else vars(record)
    named = [*values.values(), *values.get("modes", {}).values()]
    for one in (value for value in named if isinstance(value, later)):
        tree = ast.parse((ROOT / one.module.replace(".", "/")).with_suffix(".py").read_text())
        assert one.name in {getattr(node, "name", None) for node in tree.body}, one


def test_a_function_that_is_imported_later_is_called():
    assert later("zoo.data.datasets", "Dataset")("a", about="b", read=None).about == "b"


def test_the_registry_needs_no_tensorflow():
    said = "import sys, zoo.registry, zoo.presets; zoo.presets.table(); print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout == "False\n"


def test_tasks_are_named_in_their_folders_and_in_the_registry_only():
    for path in sorted((ROOT / "zoo").rglob("*.py")):
        room = path.relative_to(ROOT / "zoo").parts[0]
        if room in registry.TASKS or path.name == "registry.py":
            continue
        tree = ast.parse(path.read_text())
        asked = [node.comparators for node in ast.walk(tree) if isinstance(node, ast.Compare)]
        asked += [node.keys for node in ast.walk(tree) if isinstance(node, ast.Dict)]
        texts = {one.value for nodes in asked for one in nodes if isinstance(one, ast.Constant)}
        imports = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) if node.module}
        assert not texts & set(registry.TASKS), path
        assert not {
            name for name in imports if name.split(".")[1:2] in [[task] for task in registry.TASKS]
        }, path
