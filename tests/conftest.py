"""Fixtures that several test files use, and the option that runs the slow tests too."""

import collections

import pytest
import tensorflow as tf

# For the tests of replicas; it must be said before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="run the tests that are marked as slow, too")


def pytest_collection_modifyitems(config, items):
    """Leaves out slow tests, unless --full is given or a test is asked for by its name (file::test)."""
    if config.getoption("full") or any("::" in argument for argument in config.args):
        return
    cases = collections.Counter()
    chosen, slow = [], []
    for item in items:
        marker = item.get_closest_marker("slow")
        if marker is None:
            chosen.append(item)
            continue
        function = item.nodeid.split("[")[0]
        (slow if _is_slow(item, cases[function], **marker.kwargs) else chosen).append(item)
        cases[function] += 1
    config.hook.pytest_deselected(items=slow)
    items[:] = chosen


def _is_slow(item, place, but=(), every=None):
    """Whether the case at this place of a test's table is; see the marker in pyproject.toml."""
    if every:
        return place % every != 0
    return not but or item.callspec.id not in but


@pytest.fixture
def mirrored():
    """A function from a number of replicas to a strategy with as many, on devices of the CPU."""

    def strategy(replicas=2):
        # Its way of reducing is that of the command line; the default one can mix up two models in a process.
        devices = [f"CPU:{index}" for index in range(replicas)]
        return tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())

    return strategy


@pytest.fixture
def eagerly():
    """For tests that do not depend on compilation, which would take most of their time."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
