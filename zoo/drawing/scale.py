"""The scale of shades: what is drawn deepest."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

_STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5)


def highest_for(values: Iterable[float]) -> float:
    """A round number that 19 of 20 of the values are not above, so that shades are not lost on the others.

    Values that are not numbers do not count; where there are none above 0 it is 1.
    """
    known = np.asarray([value for value in values if math.isfinite(value)], np.float64)
    bound = float(np.quantile(known, 0.95)) if len(known) else 0.0
    if not bound > 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(bound))
    return next(step * power for step in (*_STEPS, 10.0) if step * power >= bound * (1.0 - 1e-9))
