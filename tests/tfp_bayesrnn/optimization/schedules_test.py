"""Learning-rate schedules against their closed forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import HoldThenDecay, HoldThenLinear


class TestHoldThenDecay:
    def test_holds_for_so_many_epochs_then_decays_at_the_start_of_each(self):
        rate = HoldThenDecay(1.0, steps_per_epoch=3, hold_epochs=2, decay=0.5)
        rates = [float(rate(tf.constant(step))) for step in range(15)]
        assert rates == [1.0] * 6 + [0.5] * 3 + [0.25] * 3 + [0.125] * 3

    @pytest.mark.parametrize(
        ("step", "expected"), [(0, 1.0), (20 * 1327 - 1, 1.0), (20 * 1327, 0.9), (70 * 1327 - 1, 0.9**50)]
    )
    def test_the_published_recipe(self, step, expected):
        """20 epochs at 1.0, then 0.9 of it for each of the other 50."""
        rate = HoldThenDecay(1.0, steps_per_epoch=1327, hold_epochs=20, decay=0.9)
        np.testing.assert_allclose(rate(tf.constant(step, tf.int64)), expected, rtol=1e-5)

    def test_in_an_optimizer_it_is_the_rate_of_the_step(self):
        optimizer = keras.optimizers.SGD(HoldThenDecay(1.0, steps_per_epoch=1, hold_epochs=2, decay=0.5))
        variable, steps = keras.Variable([0.0]), []
        for _ in range(4):
            before = float(variable[0])
            optimizer.apply([tf.ones([1])], [variable])
            steps.append(before - float(variable[0]))
        assert steps == [1.0, 1.0, 0.5, 0.25]

    def test_the_configuration_comes_back(self):
        rate = HoldThenDecay(0.7, steps_per_epoch=5, hold_epochs=3, decay=0.9)
        optimizer = keras.optimizers.SGD(rate)
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
        assert again._learning_rate.get_config() == rate.get_config()
        assert float(again._learning_rate(30)) == float(rate(30))


class TestHoldThenLinear:
    def test_holds_then_falls_in_a_straight_line_to_0(self):
        rate = HoldThenLinear(2.0, hold_steps=4, total_steps=12)
        rates = [float(rate(tf.constant(step, tf.int64))) for step in range(15)]
        # Held up to step 4, the first of the line; step 12 is no longer taken.
        np.testing.assert_allclose(
            rates, [2.0] * 4 + [2.0 * left / 8 for left in range(8, 0, -1)] + [0.0] * 3
        )

    def test_in_an_optimizer_it_is_the_rate_of_the_step(self):
        optimizer = keras.optimizers.SGD(HoldThenLinear(1.0, hold_steps=1, total_steps=4))
        variable = keras.Variable([0.0])
        for _ in range(5):
            optimizer.apply([tf.ones([1])], [variable])
        np.testing.assert_allclose(variable[0], -(1.0 + 1.0 + 2 / 3 + 1 / 3), rtol=1e-6)

    def test_the_configuration_comes_back(self):
        rate = HoldThenLinear(0.7, hold_steps=3, total_steps=9)
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
        assert float(again(5)) == float(rate(5))

    @pytest.mark.parametrize(("hold", "total"), [(4, 4), (-1, 4), (5, 4)])
    def test_a_rate_that_never_falls_is_refused(self, hold, total):
        with pytest.raises(ValueError, match=f"Received: hold_steps={hold}, total_steps={total}"):
            HoldThenLinear(1.0, hold, total)
