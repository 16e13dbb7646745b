"""Computing in half precision, compiled or not, on one replica or two: what stays float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import as_dataset, language_model, tokens, values, windows

from tfp_bayesrnn import Dropout, PointMass, PosteriorSharpening, noise
from tfp_bayesrnn.model import training
from tfp_bayesrnn.model.recurrence import initial_state

ELEMENTS = windows(tokens(rows=4, length=8))
# Of a gradient, relative to its norm. The types have 8 and 11 bits; through 4 time steps errors add up.
ERRORS = {"bfloat16": 0.05, "float16": 0.005}


@pytest.fixture
def policy():
    """A function that sets the dtype policy of layers made from then on."""
    before = keras.config.dtype_policy()
    yield lambda dtype: keras.config.set_dtype_policy("float32" if dtype == "float32" else f"mixed_{dtype}")
    keras.config.set_dtype_policy(before)


def make(jit_compile):
    layers, sharpening = [Dropout(0.3, seed=0)], PosteriorSharpening(0.3)
    model = language_model(layers=layers, sharpening=sharpening, run_eagerly=False)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    model.compile(optimizer, clip_norm=2.0, jit_compile=jit_compile)
    return model


def first_step(model):
    """What the first minibatch gives, and what the network makes of it."""
    inputs, targets = tf.nest.map_structure(tf.constant, ELEMENTS[0])
    batch = training.unpack((inputs, targets))
    state = initial_state(model.network, 4)
    return training.free_energy_gradients(
        model.objective, batch, state, noise.make_seed(0), tf.constant(1.0), with_outputs=True
    )


@pytest.mark.parametrize("dtype", ERRORS)
class TestOneStep:
    def test_only_the_network_is_in_half_precision(self, policy, dtype):
        policy(dtype)
        model = make(jit_compile=False)
        step = first_step(model)
        assert step.outputs.dtype == dtype
        draw = model.posterior.sample(0)
        theta, kl = model.sharpening.sharpen(draw, draw, noise.make_seed(0))
        energy = step.energy
        float32 = [
            *model.variables,
            *step.gradients,
            *step.sharpening_gradients,
            *draw.values(),
            *theta.values(),
            *model.posterior.mean().values(),
            *(weight.scale() for weight in model.posterior.weights),
            *model.sharpening.etas(),
            kl,
            model.posterior.kl(draw),
            *(energy.loss, energy.kl, energy.kl_sharpening, energy.nll.total, energy.nll.nats),
        ]
        kinds = {tf.as_dtype(value.dtype) for value in float32}
        assert {kind for kind in kinds if kind.is_floating} == {tf.float32}  # The others are seeds.

    @pytest.mark.slow(but=["bfloat16"])
    def test_the_gradient_is_that_of_float32_but_for_rounding(self, policy, dtype):
        policy("float32")
        exact = first_step(make(jit_compile=False))
        policy(dtype)
        rounded = first_step(make(jit_compile=False))
        assert float(rounded.energy.kl) == float(exact.energy.kl)
        np.testing.assert_allclose(rounded.energy.loss, exact.energy.loss, rtol=ERRORS[dtype])
        difference = 0.0
        for one, other in zip(rounded.gradients, exact.gradients, strict=True):
            norm = np.linalg.norm(other)
            difference = max(difference, np.linalg.norm(one - other) / norm)
        assert 0.0 < difference < ERRORS[dtype]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "jit_compile", "count"),
    [("bfloat16", True, 1), ("bfloat16", False, 2), ("float16", True, 2)],
)
def test_trains_in_any_combination(mirrored, policy, dtype, jit_compile, count):
    strategy = mirrored(count)
    with strategy.scope():
        exact = make(jit_compile=False)
        exact.compile(exact.optimizer, clip_norm=2.0, jit_compile=False, run_eagerly=True)
        policy(dtype)
        model = make(jit_compile)
    assert model.use_jit() == jit_compile
    for each in (exact, model):
        history = each.fit(as_dataset(ELEMENTS), epochs=2, verbose=0).history
        assert np.all(np.isfinite(history["loss"]))
    assert {tf.as_dtype(variable.dtype) for variable in model.trained_variables} == {tf.float32}
    kept = model.training_state()["state"].read()
    assert [value.dtype for value in kept] == [tf.float32] * 2
    assert all(np.array_equal(value, tf.cast(tf.cast(value, dtype), tf.float32)) for value in kept)
    ended = [values(each.trainable_variables) for each in (model, exact)]
    for rounded, wanted in zip(*ended, strict=True):
        np.testing.assert_allclose(rounded, wanted, atol=0.02)
    assert any(np.any(rounded != wanted) for rounded, wanted in zip(*ended, strict=True))


class TestJitCompile:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("dtype", "posterior", "by_default"),
        [
            ("bfloat16", PointMass(), False),
            ("bfloat16", None, True),
            ("float16", PointMass(), True),
            ("float32", PointMass(), True),
        ],
    )
    def test_by_default_all_or_for_products_in_bfloat16_the_likelihood(
        self, policy, dtype, posterior, by_default
    ):
        if dtype != "float32":
            policy(dtype)
        models = []
        for jit_compile in ("auto", False):
            model = language_model(posterior=posterior, run_eagerly=False)
            model.compile(keras.optimizers.SGD(0.1), clip_norm=2.0, jit_compile=jit_compile)
            models.append(model)
        assert models[0].use_jit() == by_default and not models[1].use_jit()
        one, other = (model.fit(as_dataset(ELEMENTS), epochs=2, verbose=0).history for model in models)
        np.testing.assert_allclose(one["loss"], other["loss"], rtol=1e-2 if dtype != "float32" else 1e-5)

    def test_of_a_layer_that_does_not_support_it(self):
        layer = keras.layers.Lambda(lambda x: x, name="odd")
        layer.supports_jit = False
        model = language_model(layers=[layer], run_eagerly=False)
        model.compile(keras.optimizers.SGD(0.1), jit_compile="auto")
        assert not model.use_jit()
        model.compile(keras.optimizers.SGD(0.1), jit_compile=True)
        with pytest.raises(ValueError, match="but layer 'odd' does not support it"):
            model.use_jit()

    def test_with_run_eagerly(self):
        model = language_model()
        model.compile(keras.optimizers.SGD(0.1), jit_compile=True, run_eagerly=True)
        with pytest.raises(ValueError, match="but run_eagerly=True excludes it"):
            model.train_on_batch(ELEMENTS[0][0], ELEMENTS[0][1])
