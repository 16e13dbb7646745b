"""What golden values hold of an array: little, but what any change of it changes."""

import numpy as np


def norm_and_projection(value):
    """The norm of an array, and its product with a fixed vector of signs."""
    value = np.ravel(value).astype(np.float64)
    signs = np.random.default_rng(value.size).choice([-1.0, 1.0], value.size)
    return [float(np.linalg.norm(value)), float(value @ signs)]
