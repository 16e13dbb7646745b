"""Where the deepest shade begins."""

import math

import numpy as np
import pytest

from zoo.drawing.scale import highest_for


@pytest.mark.parametrize("scale", [1e-4, 0.03, 1.0, 7.7, 420.0])
def test_the_deepest_shade_begins_at_a_round_number(scale):
    values = scale * np.random.default_rng(0).uniform(size=200)
    highest = highest_for([*values, math.nan])
    assert np.quantile(values, 0.95) <= highest <= 2.0 * np.quantile(values, 0.95)
    assert f"{highest:.1e}" in {f"{highest:.1g}".replace("e", ".0e"), f"{highest:.1e}"}
    assert float(f"{highest:.2g}") == pytest.approx(highest, rel=1e-12)


def test_the_deepest_shade_of_nothing():
    assert highest_for([]) == highest_for([0.0, math.nan]) == 1.0
    assert highest_for([1.0]) == 1.0
