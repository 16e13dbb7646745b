"""Signals that ask a run to end."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from zoo.machine.interruption import SIGNALS, Interrupted, ending_at_once, left_to_the_system, noticed

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


class Unhandled(Exception):
    """A signal reached whoever handled it before."""


@pytest.fixture(autouse=True)
def before():
    """The handlers around a test: a signal that gets through fails it, and does not end pytest."""

    def unhandled(number, frame):
        raise Unhandled(number)

    originals = {number: signal.signal(number, unhandled) for number in SIGNALS}
    yield unhandled
    for number, original in originals.items():
        signal.signal(number, original)


def send(number):
    os.kill(os.getpid(), number)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


def test_the_signals_are_those_of_a_scheduler_and_of_a_keyboard():
    assert set(SIGNALS) == {signal.SIGTERM, signal.SIGINT}


@BOTH
def test_ending_at_once(number, before):
    with pytest.raises(Interrupted, match=f"^interrupted by {number.name}$") as caught, ending_at_once():
        send(number)
        pytest.fail("went on")
    assert caught.value.number == number
    assert handlers() == [before, before]


@BOTH
def test_the_first_is_only_noticed_and_the_second_ends(number, before):
    with noticed() as came:
        assert came() is None
        send(number)
        assert came() == number
        with pytest.raises(Interrupted) as caught:
            send(number)
        assert caught.value.number == number
    assert handlers() == [before, before]


def test_the_second_may_be_another_signal():
    with pytest.raises(Interrupted) as caught, noticed() as came:
        send(signal.SIGTERM)
        try:
            send(signal.SIGINT)
        finally:
            assert came() == signal.SIGTERM
    assert caught.value.number == signal.SIGINT


def test_each_notices_its_own_only():
    with noticed() as first:
        send(signal.SIGTERM)
    with noticed() as second:
        assert second() is None
        send(signal.SIGINT)
    assert (first(), second()) == (signal.SIGTERM, signal.SIGINT)


def test_within_one_another_the_inner_one_counts(before):
    """As training does within a command."""
    with pytest.raises(Interrupted), ending_at_once():
        with noticed() as came:
            send(signal.SIGTERM)
        assert came() == signal.SIGTERM
        send(signal.SIGTERM)
        pytest.fail("the outer one was not put back")
    assert handlers() == [before, before]


@pytest.mark.parametrize("context", [ending_at_once, noticed])
def test_handlers_are_put_back_after_an_exception(before, context):
    with pytest.raises(KeyError), context():
        assert before not in handlers()
        raise KeyError
    assert handlers() == [before, before]


def test_left_to_the_system(before):
    """And taken back from whoever takes signals within."""
    with left_to_the_system():
        assert handlers() == [signal.SIG_DFL, signal.SIG_DFL]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert handlers() == [before, before]


def test_no_signal_no_end():
    with ending_at_once(), noticed() as came:
        pass
    assert came() is None


def test_outside_the_main_thread_nothing_is_done(before):
    found = []

    def work():
        with ending_at_once(), noticed() as came:
            found.extend([came(), *handlers()])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None, before, before]


STUCK = """
import ctypes, os, signal, sys, threading
from zoo.machine import interruption
interruption.GRACE_SECONDS = 0.5
with interruption.ending_at_once():
    # Another thread gets the signal, so that the one that should handle it goes on with what it does in C.
    signal.pthread_sigmask(signal.SIG_BLOCK, interruption.SIGNALS)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    ctypes.CDLL(None).sleep(20)
"""


def test_what_cannot_be_interrupted_is_ended_after_a_while():
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=15)
    assert done.returncode == 143
    assert done.stderr == "interrupted by SIGTERM, amid something that could not be stopped\n"


def in_a_process(script, *arguments):
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=60
    )


SWALLOWED = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from zoo.machine import interruption
interruption.GRACE_SECONDS = 0.5
with interruption.ending_at_once():
    {what}
    time.sleep(20)
"""
SWALLOWING = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
except BaseException:
    pass
"""


def test_a_signal_that_an_import_would_swallow_ends_the_process(tmp_path):
    (tmp_path / "swallowing.py").write_text(SWALLOWING)
    done = in_a_process(SWALLOWED.format(what="import swallowing"), str(tmp_path))
    assert (done.returncode, done.stderr) == (143, "interrupted by SIGTERM\n")


def test_and_one_that_anything_else_does_after_a_while(tmp_path):
    what = f"exec({SWALLOWING!r})"
    done = in_a_process(SWALLOWED.format(what=what), str(tmp_path))
    assert done.returncode == 143
    assert done.stderr == "interrupted by SIGTERM, amid something that went on\n"


def test_the_line_is_said_where_standard_error_is_somewhere_else(tmp_path):
    """As it is while TensorFlow is imported."""
    (tmp_path / "swallowing.py").write_text(SWALLOWING)
    what = "from zoo.command_line.quiet_imports import import_quietly; import_quietly('swallowing')"
    done = in_a_process(SWALLOWED.format(what=what), str(tmp_path))
    assert (done.returncode, done.stderr) == (143, "interrupted by SIGTERM\n")


@BOTH
def test_signals_before_the_command_line_is_there(number):
    done = in_a_process(f"from zoo.command_line import console; console.end({int(number)}, None)")
    assert (done.returncode, done.stderr) == (128 + number, f"interrupted by {number.name}\n")
