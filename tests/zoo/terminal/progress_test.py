"""Bars of a terminal, and lines of the log where there is none."""

import io

import pytest
from absl import logging

from zoo.terminal import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def said(monkeypatch):
    """The lines of the log; stderr is no terminal."""
    lines = []
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr(logging, "info", lambda form, *values: lines.append(form % values))
    return lines


def test_a_bar_counts_the_whole_epoch_of_a_resumed_run(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    steps = progress.steps(range(91, 101), "epoch 3", of=100)
    assert (steps.n, steps.total) == (90, 100)
    assert list(steps) == list(range(91, 101))
    assert "epoch 3:  90%" in screen.getvalue() and "90/100" in screen.getvalue()


def test_what_ends_within_a_minute_says_nothing_in_a_log(said):
    assert list(progress.steps(range(4), "epoch 1", of=4)) == [0, 1, 2, 3]
    assert list(progress.windows("test")(iter("abc"))) == ["a", "b", "c"]
    assert not said


def test_a_line_of_the_log_a_minute(said, monkeypatch):
    """A step takes 20 s: the lines are a minute, or three steps, apart."""
    now = 0.0
    bar = progress.steps(range(89, 101), "epoch 3", of=100)
    monkeypatch.setattr(bar, "_time", lambda: now)
    bar.start_t = bar.last_print_t = 0.0
    for _ in bar:
        now += 20.0
    assert said == [
        "epoch 3: 91 of 100 steps, 20.00s/step, 03:00 left",
        "epoch 3: 94 of 100 steps, 20.00s/step, 02:00 left",
        "epoch 3: 97 of 100 steps, 20.00s/step, 01:00 left",
        "epoch 3: 100 of 100 steps, 20.00s/step, 00:00 left",
    ]


def test_what_has_no_known_length_is_counted_too(said, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    list(progress.windows("test, mean")(iter(range(3))))
    assert said[-1].startswith("test, mean: 3 of ? windows, ")


def test_a_counter(said, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    with progress.counter(2, "pruning", "evaluation") as bar:
        bar.update()
    assert said[-1].startswith("pruning: 1 of 2 evaluations, ")
