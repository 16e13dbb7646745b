"""Models with masks, for the tests of pruning."""

import numpy as np
import small_models


def random_keep(shape, seed=1):
    """Half of the elements; of the first row none, of the second all."""
    keep = np.random.default_rng(seed).random(shape) < 0.5
    keep[0], keep[1] = False, True
    return keep


def language_model(**arguments):
    """A model of which no mean is 0, and masks that keep about half of each weight."""
    model = small_models.language_model(**arguments)
    for weight in model.posterior.weights:
        weight.mu.assign(weight.mu + 0.01)
    masks = {
        weight: np.random.default_rng(place).random(weight.shape) < 0.5
        for place, weight in enumerate(model.posterior.weights)
    }
    return model, masks


def assert_is_masked(values, masks):
    """`values`, weight -> tensor, are 0 where nothing is kept, and there alone."""
    for weight, keep in masks.items():
        np.testing.assert_array_equal(np.asarray(values[weight]) != 0.0, keep)
