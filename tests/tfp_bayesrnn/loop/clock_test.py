"""When a loop saves and validates, by a clock that is set by hand."""

import types

import pytest

from tfp_bayesrnn.loop import clock
from tfp_bayesrnn.loop.clock import Clock, Due

ALONE = types.SimpleNamespace(are_several=False)


class Time:
    """Stands for the module `time`."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def time(monkeypatch):
    made = Time()
    monkeypatch.setattr(clock, "time", made)
    return made


def test_saving_and_validating_have_times_of_their_own(time):
    made = Clock(ALONE, 300.0, 600.0)
    assert made.due(False) == Due(save=False, stop=False, validation=False)
    time.now = 301.0
    assert made.due(True) == Due(save=True, stop=True, validation=False)
    made.saved()
    time.now = 601.0
    assert made.due(False) == Due(save=False, stop=False, validation=True)
    made.validated(1.0)
    time.now = 1201.0
    assert not made.due(False).validation
    time.now = 1202.0
    assert made.due(False).validation


def test_a_long_validation_makes_the_next_one_wait(time):
    made = Clock(ALONE, 300.0, 600.0)
    made.validated(90.0)
    time.now = 900.0
    assert not made.due(False).validation
    time.now = 901.0
    assert made.due(False).validation


def test_without_a_time_there_is_no_validation(time):
    made = Clock(ALONE, 300.0, 0.0)
    time.now = 1e9
    assert made.due(False) == Due(save=True, stop=False, validation=False)
