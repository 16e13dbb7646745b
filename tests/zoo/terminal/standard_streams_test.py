"""Standard output and standard error of any kind, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zoo

ROOT = Path(zoo.__file__).parents[1]

# A command that prints, logs and says what is wrong, without the time that TensorFlow takes.
SCRIPT = """
import dataclasses, sys
from absl import logging
from zoo.command_line import main
from zoo.modes import MODES
def run(request):
    with open(sys.argv[1], "w") as file:
        print("\\u00b1 caf\\u00e9 \\u2264", "x" * int(sys.argv[2]))
        print("a bar", file=sys.stderr)
        logging.warning("a log line: \\u2264")
        file.write("whole")
        print("the end")
MODES["list"] = dataclasses.replace(MODES["list"], run=run)
sys.exit(main.main(["m", "--mode=list"] + sys.argv[3:]))
"""
FULL = "error: cannot write standard output: No space left on device\n"
PLAIN = {"PYTHONIOENCODING": "", "LC_ALL": "C.UTF-8"}


def carried_out(tmp_path, redirections="", more="", size=1, **environment):
    command = f'"$0" -c "$SCRIPT" {tmp_path}/file {size} {more} {redirections}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable],
        cwd=ROOT,
        capture_output=True,
        timeout=100,
        env={**os.environ, **PLAIN, "SCRIPT": SCRIPT, **environment},
    )
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr, done.stderr
    if not more:
        assert (tmp_path / "file").read_text() == "whole"
    return done


@pytest.mark.slow(every=3)
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "± café ≤ x\nthe end\n".encode()),
        ({"PYTHONIOENCODING": "ascii"}, b"\\xb1 caf\\xe9 \\u2264 x\nthe end\n"),
        ({"PYTHONIOENCODING": "ascii:strict"}, b"\\xb1 caf\\xe9 \\u2264 x\nthe end\n"),
        ({"PYTHONIOENCODING": "cp1252"}, b"\xb1 caf\xe9 \\u2264 x\nthe end\n"),
        (
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            b"\\xb1 caf\\xe9 \\u2264 x\nthe end\n",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_an_encoding_lacks_is_written_as_in_source(tmp_path, environment, expected):
    done = carried_out(tmp_path, **environment)
    assert (done.returncode, done.stdout) == (0, expected)
    assert b"a bar\n" in done.stderr and b"a log line" in done.stderr


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_full_disk_under_standard_output_is_one_line(tmp_path, size):
    """Found when the buffer is full, or at the end; what was to be done is done where that is later."""
    command = f'"$0" -c "$SCRIPT" {tmp_path}/file {size} >/dev/full'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **PLAIN, "SCRIPT": SCRIPT},
    )
    assert done.returncode == 2
    assert done.stderr.endswith(FULL) and "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.slow(every=3)
@pytest.mark.parametrize(
    "redirections",
    [">&-", "2>&-", ">&- 2>&-", ">&- 2>&- <&-", "2>/dev/full", "| head -c 1", "2>&1 >&- | true"],
)
def test_closed_streams_and_a_full_standard_error_lose_nothing_else(tmp_path, redirections):
    done = carried_out(tmp_path, redirections)
    assert done.returncode == 0
    if redirections == ">&-":
        assert done.stderr.startswith(b"a bar\n")


@pytest.mark.parametrize("redirections", ["2>&-", "2>/dev/full", ">&- 2>&- <&-"])
def test_bad_input_keeps_its_status(tmp_path, redirections):
    assert carried_out(tmp_path, redirections, more="--no_such_flag").returncode == 2
