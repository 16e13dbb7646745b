"""Runs of the command line without compilation."""

import functools

import pytest
import tensorflow as tf

from zoo.filesystem import ownership
from zoo.pruning import cost


@pytest.fixture(autouse=True, scope="module")
def quick():
    """What is computed is no matter here, nor that it is compiled."""
    tf.config.run_functions_eagerly(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ownership, "_PATIENCE_SECONDS", 0.1)
        few = functools.partial(cost.measure_pruning, fractions=(0.5,), alone=())
        patch.setattr(cost, "measure_pruning", few)
        yield
    tf.config.run_functions_eagerly(False)
