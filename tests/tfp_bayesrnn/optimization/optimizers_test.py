"""Every optimizer of Keras, with every option, against `keras.Model.fit` on point masses."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import RecordingHooks, as_dataset, assert_identical, values

from tfp_bayesrnn import BayesianModel, ExactResume, NormalLikelihood
from tfp_bayesrnn.loop.loop import Loop

K = keras.optimizers
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(8, 3)).astype(np.float32)
Y = GENERATOR.normal(size=(8, 2)).astype(np.float32)
ROWS, STEPS = 2, 4

# The same float32 operations but for the order of sums: some tens of roundings.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}


def decay():
    return K.schedules.ExponentialDecay(0.1, 2, 0.5)


KINDS = {
    "SGD": lambda **o: K.SGD(0.1, **o),
    "momentum": lambda **o: K.SGD(0.1, momentum=0.9, **o),
    "nesterov": lambda **o: K.SGD(0.1, momentum=0.9, nesterov=True, **o),
    "Adam": lambda **o: K.Adam(0.05, **o),
    "AMSGrad": lambda **o: K.Adam(0.05, amsgrad=True, **o),
    "AdamW": lambda **o: K.AdamW(0.05, weight_decay=0.1, **o),
    "Nadam": lambda **o: K.Nadam(0.05, **o),
    "Adamax": lambda **o: K.Adamax(0.05, **o),
    "Adagrad": lambda **o: K.Adagrad(0.05, **o),
    "Adadelta": lambda **o: K.Adadelta(1.0, **o),
    "RMSprop": lambda **o: K.RMSprop(0.05, momentum=0.5, centered=True, **o),
    "Ftrl": lambda **o: K.Ftrl(0.1, l1_regularization_strength=0.01, **o),
    "Lion": lambda **o: K.Lion(0.05, **o),
    "Lamb": lambda **o: K.Lamb(0.05, **o),
    "Adafactor": lambda **o: K.Adafactor(0.05, **o),
    "Muon": lambda **o: K.Muon(0.05, **o),
    "ScheduleFreeAdamW": lambda **o: K.ScheduleFreeAdamW(0.05, **o),
}
CLIPPING = {"clipnorm": {"clipnorm": 0.1}, "clipvalue": {"clipvalue": 0.05}}
CLIPPING["global_clipnorm"] = {"global_clipnorm": 0.2}
OPTIONS = {
    **CLIPPING,
    "use_ema": {"use_ema": True, "ema_momentum": 0.5},
    "weight_decay": {"weight_decay": 0.1},
    "loss_scale_factor": {"loss_scale_factor": 128.0},
    "a loss scale that rounds": {"loss_scale_factor": 100.0, "clipnorm": 0.1},
}
OF_ONE_REPLICA = {
    "ema_overwrite_frequency": {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 2},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    "accumulation with everything": {
        "gradient_accumulation_steps": 2,
        "clipnorm": 0.1,
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_momentum": 0.5,
        "loss_scale_factor": 8.0,
    },
}
RATES = {
    "a schedule": lambda: K.SGD(decay()),
    "a schedule, momentum": lambda: K.SGD(decay(), momentum=0.9),
    "a function": lambda: K.SGD(lambda: 0.1, momentum=0.9),
    "warm restarts": lambda: K.Adam(K.schedules.CosineDecayRestarts(0.1, 2)),
}
WRAPPERS = {
    "LossScaleOptimizer": lambda: K.LossScaleOptimizer(K.Adam(0.05), dynamic_growth_steps=2),
    "LossScaleOptimizer, options": lambda: K.LossScaleOptimizer(K.SGD(0.1, clipnorm=0.1, use_ema=True)),
    "MultiOptimizer": lambda: K.MultiOptimizer(
        K.OptimizerMap(K.SGD(0.1), {".*bias": K.Adam(0.05)}), loss_scale_factor=16.0
    ),
}
# An option of SGD may meet the shortcut for plain descent, one of Adam cannot.
CASES = {
    **KINDS,
    **{
        f"{kind}, {name}": lambda make=KINDS[kind], options=options: make(**options)
        for kind in ("SGD", "Adam")
        for name, options in {**OPTIONS, **OF_ONE_REPLICA}.items()
    },
    **RATES,
    **WRAPPERS,
}


def named(*names):
    return pytest.mark.parametrize("name", names)


def network(constraint=None):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_constraint=constraint)])


def half_square(targets, outputs):
    """The negative log-likelihood of N(outputs, 1) without its constant, of a row."""
    return tf.reduce_sum(tf.square(targets - outputs), axis=-1) / 2.0


def ours(make, constraint=None, **compiling):
    model = BayesianModel(network(constraint), likelihood=NormalLikelihood(1.0))
    model.build((None, 3))
    model.compile(make(), **compiling)
    return model


def fit(model, **arguments):
    model.fit(X, Y, batch_size=ROWS, shuffle=False, verbose=0, **arguments)
    return model


def keras_s(make, constraint=None, run_eagerly=True, **arguments):
    """Keras's model, trained."""
    model = network(constraint)
    model.compile(make(), loss=half_square, run_eagerly=run_eagerly)
    return fit(model, **arguments)


@functools.cache
def reference(name):
    return keras_s(CASES[name])


def variables_of(model):
    return [*model.weights, *model.optimizer.variables]


def assert_same(actual, expected):
    assert any(
        np.any(one != other)
        for one, other in zip(values(network().weights), values(expected.weights), strict=True)
    )
    for one, other in zip(variables_of(actual), variables_of(expected), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), **CLOSE, err_msg=other.path)


class TestFit:
    @pytest.mark.slow(every=4)
    @named(*CASES)
    def test_eagerly(self, name):
        assert_same(fit(ours(CASES[name], run_eagerly=True)), reference(name))

    @named("Adam, accumulation with everything")
    @pytest.mark.parametrize("jit_compile", [True, False])
    def test_compiled(self, name, jit_compile):
        assert_same(fit(ours(CASES[name], jit_compile=jit_compile)), reference(name))

    @named("SGD, ema_overwrite_frequency", "LossScaleOptimizer")
    def test_in_a_graph(self, name):
        expected = keras_s(CASES[name], run_eagerly=False)
        assert_same(fit(ours(CASES[name], jit_compile=False)), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("momentum", [0.0, 0.9])
    def test_constraints_of_variables(self, momentum):
        def make():
            return K.SGD(0.1, momentum=momentum)

        constraint = keras.constraints.UnitNorm()
        assert_same(fit(ours(make, constraint, run_eagerly=True)), keras_s(make, constraint))

    @pytest.mark.slow(but=["MultiOptimizer"])
    @named(
        "momentum",
        "SGD, global_clipnorm",
        "SGD, loss_scale_factor",
        "LossScaleOptimizer, options",
        "MultiOptimizer",
    )
    @pytest.mark.usefixtures("eagerly")
    def test_on_two_replicas_as_on_one(self, mirrored, name):
        """Clipping too: of the gradient of the whole minibatch."""
        with mirrored(2).scope():
            model = ours(CASES[name])
        assert_same(fit(model), reference(name))

    @named(*OF_ONE_REPLICA)
    @pytest.mark.parametrize("replicas", [1, 2])
    def test_what_keras_cannot_do_on_mirrored_replicas_is_refused(self, mirrored, replicas, name):
        message = rf"Received: Adam\(\w+=2\), {replicas} replicas of MirroredStrategy"
        with mirrored(replicas).scope(), pytest.raises(ValueError, match=message):
            ours(CASES[f"Adam, {name}"])

    @named("gradient_accumulation_steps")
    def test_one_device_accumulates(self, name):
        with tf.distribute.OneDeviceStrategy("CPU:0").scope():
            model = ours(CASES[f"Adam, {name}"])
        assert_same(fit(model), reference(f"Adam, {name}"))

    @named("Adam, loss_scale_factor", "LossScaleOptimizer")
    def test_the_norm_that_is_reported_and_clipped_is_of_the_loss_itself(self, name):
        norms = []
        for make in (KINDS["Adam"], CASES[name]):
            model = ours(make, clip_norm=0.1, run_eagerly=True)
            norms.append(model.train_on_batch(X, Y, return_dict=True)["gradient_norm"])
        np.testing.assert_allclose(norms[1], norms[0], rtol=1e-6)

    def test_loss_scaling_passes_over_a_gradient_that_overflows(self):
        """And halves the scale, until the step can be taken."""

        def make():
            return K.LossScaleOptimizer(K.SGD(0.1), initial_scale=2.0**127)

        model = ours(make, run_eagerly=True, clip_norm=1.0)
        before, taken, tries = values(model.weights), 0, 0
        while not taken:
            assert_identical(values(model.weights), before)
            model.train_on_batch(X, 100.0 * Y)
            taken, tries = int(model.optimizer.iterations), tries + 1
        assert 1 < tries < 20
        assert np.all(np.isfinite(values(model.weights)[0]))


class TestGoingOn:
    """What an optimizer holds is saved, and comes back."""

    RESUMED = ("Adam, accumulation with everything", *WRAPPERS, "a schedule, momentum")

    @pytest.mark.slow(every=3)
    @named(*RESUMED)
    def test_after_loading(self, tmp_path, name):
        model = ours(CASES[name], run_eagerly=True)
        for rows in (slice(0, 2), slice(2, 4), slice(4, 6)):
            model.train_on_batch(X[rows], Y[rows])
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
        for one in (model, again):
            one.train_on_batch(X[6:], Y[6:])
        assert_identical(values(variables_of(again)), values(variables_of(model)))

    @pytest.mark.slow(but=["Adam, accumulation with everything", "a function"])
    @named(*RESUMED, "SGD, use_ema", "a function")
    @pytest.mark.usefixtures("eagerly")
    def test_in_the_projects_own_loop(self, tmp_path, name):
        """It takes the steps of Keras's fit, and a resumed run goes on as if it had not stopped."""

        def run(directory, epochs):
            model = ours(CASES[name])
            data = as_dataset(list(zip(X.reshape(STEPS, ROWS, -1), Y.reshape(STEPS, ROWS, -1), strict=True)))
            loop = Loop(model, lambda step: data.repeat().skip(step % STEPS), STEPS, tmp_path / directory)
            loop.run(loop.restore(), epochs, RecordingHooks())
            return model

        assert_same(run("parts", 1), reference(name))
        assert_identical(values(variables_of(run("parts", 2))), values(variables_of(run("whole", 2))))


class TestNone:
    """Compiled without an optimizer, a model can be evaluated as Keras's can."""

    def test_evaluates_and_is_saved(self, tmp_path):
        model = ours(lambda: None, run_eagerly=True)
        nll = model.evaluate(X, Y, verbose=0, return_dict=True)["nll"]
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
        assert again.evaluate(X, Y, verbose=0, return_dict=True)["nll"] == nll

    @pytest.mark.parametrize(
        "train",
        [
            fit,
            lambda model: model.train_on_batch(X, Y),
            lambda model: fit(model, callbacks=[ExactResume("unused")]),
            lambda model: Loop(model, lambda step: None, 1, "unused"),
        ],
        ids=["fit", "train_on_batch", "ExactResume", "Loop"],
    )
    def test_is_not_trained(self, train):
        with pytest.raises(ValueError, match=r"compile it with one\. Received: optimizer=None"):
            train(ours(lambda: None))
