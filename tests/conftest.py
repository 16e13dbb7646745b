"""Fixtures that several test files use."""

import pytest
import tensorflow as tf

# For the tests of replicas; it must be said before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)


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
