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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Leaves out slow tests, unless --full is given or a test is asked for by its name (file::test)."""
    if config.getoption("full") or any("::" in argument for argument in config.args):
        return
    functions = collections.defaultdict(list)
    for item in items:
        functions[item.nodeid.split("[")[0]].append(item)
    slow = {case for cases in functions.values() for case in slow_cases(cases)}
    config.hook.pytest_deselected(items=[item for item in items if item in slow])
    items[:] = [item for item in items if item not in slow]


def slow_cases(cases):
    """Those of a test's cases that are slow; see the marker in pyproject.toml."""
    marker = cases[0].get_closest_marker("slow")
    if marker is None:
        return []
    if "every" in marker.kwargs:
        return [case for place, case in enumerate(cases) if place % marker.kwargs["every"]]
    names = {case.callspec.id: case for case in cases if hasattr(case, "callspec")}
    quick = marker.kwargs.get("but", [])
    if unknown := [name for name in quick if name not in names]:
        raise pytest.UsageError(f"{cases[0].nodeid} has no cases {unknown}, which are said not to be slow")
    return [case for case in cases if case not in [names[name] for name in quick]]


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
