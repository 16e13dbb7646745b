"""Fixtures that several test files use."""

import pytest
import tensorflow as tf


@pytest.fixture
def eagerly():
    """For tests that do not depend on compilation, which would take most of their time."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
