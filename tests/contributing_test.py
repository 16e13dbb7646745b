"""The recipes of CONTRIBUTING.md: a copy of the packages gets what each says, and a step is trained with it.

A recipe's blocks say in their first line what they are: `python file=PATH` is a new file, `python line=PATH`
a line for a file that is there, below the one that the block repeats; `python try` and `sh try` are run.
"""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
BLOCK = re.compile(r"^```(?:python|sh) (file|line|try)(?:=(\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# What a newcomer touches, besides the test: new files or one new folder, and lines of files that are there.
TOUCHED = {"A cell": (1, 1), "A posterior family": (1, 0), "A data set": (1, 1), "A task": (1, 2)}
# So that a step is quick; the commands of the recipes train for as long as the presets say.
QUICK = ["--config.train.epochs=1", "--jit_compile=off"]
SMALL = [
    "model.units=4",
    "model.embedding_units=4",
    "train.unroll=40",
    "evaluate.rows=2",
    "evaluate.final_rows=20",
]
PRELUDE = """
import shlex
import absl_main

def command(line, *more):
    words = shlex.split(line)
    assert words[0] == ".venv/bin/python"
    assert absl_main.main([*words[1:], *more]) == 0
"""


def recipes():
    """{heading: [(kind, path, code), ...]}"""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    found = {section.split("\n", 1)[0]: BLOCK.findall(section) for section in sections}
    return {heading: blocks for heading, blocks in found.items() if blocks}


def test_every_recipe_is_there_and_short():
    assert recipes().keys() == TOUCHED.keys()
    for heading, blocks in recipes().items():
        new = [pathlib.Path(path) for kind, path, _ in blocks if kind == "file"]
        # A folder that is new counts once.
        places = {path if (ROOT / path).parent.is_dir() else path.parent for path in new}
        lines = sum(len(code.splitlines()) - 1 for kind, _, code in blocks if kind == "line")
        assert (len(places), lines) == TOUCHED[heading], heading


def test_all_functions_of_new_files_are_annotated():
    """As the type checker of `scripts/test` asks of every function."""
    for path, code in [
        (path, code) for blocks in recipes().values() for kind, path, code in blocks if kind == "file"
    ]:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.FunctionDef):
                bare = [one.arg for one in node.args.args if one.annotation is None]
                assert node.returns is not None and set(bare) <= {"self"}, (
                    f"{path}: {node.name}({', '.join(bare)})"
                )


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What the recipes print, all of them followed in one copy of the packages, in one process."""
    copy = tmp_path_factory.mktemp("packages")
    for package in ("tfp_bayesrnn", "zoo"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "absl_main.py", copy)
    program = [PRELUDE]
    for heading, blocks in recipes().items():
        for kind, path, code in blocks:
            if kind == "file":
                assert not (copy / path).exists(), f"{path} is there already"
                (copy / path).parent.mkdir(parents=True, exist_ok=True)
                (copy / path).write_text(code, encoding="utf-8")
            elif kind == "line":
                anchor, added = code.split("\n", 1)
                text = (copy / path).read_text(encoding="utf-8")
                assert text.count(f"{anchor}\n") == 1, f"{path} has not one line {anchor!r}"
                (copy / path).write_text(text.replace(f"{anchor}\n", f"{anchor}\n{added}"), encoding="utf-8")
            elif code.startswith("python "):
                small = [f"--config.{field}" for field in SMALL if "--preset=demo" in code]
                program.append(f"command({code.strip()!r}, *{[*QUICK, *small]!r})")
            else:
                program.append(code)
        program.append(f"print('done:', {heading!r})")
    environment = {**os.environ, "PYTHONPATH": str(copy), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-c", "\n".join(program)],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize("heading", TOUCHED)
def test_a_step_is_trained_with_what_a_recipe_adds(outcome, heading):
    assert f"done: {heading}" in outcome.stdout.splitlines(), outcome.stderr[-3000:]
