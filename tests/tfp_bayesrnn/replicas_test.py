"""Several replicas: whose rows are whose, what is summed, and that they are one training together."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    RecordingHooks,
    as_dataset,
    assert_identical,
    language_model,
    point_mass_language_model,
    regression,
    regression_data,
    tokens,
    values,
    windows,
)

from tfp_bayesrnn import Dropout, HoldThenDecay, PosteriorSharpening, noise, replicas
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.loop import Loop
from tfp_bayesrnn.model import training
from tfp_bayesrnn.model.recurrence import initial_state

ROWS = 4
ELEMENTS = windows(tokens(rows=ROWS, length=16))
STEPS = len(ELEMENTS)


def stream(step, elements=ELEMENTS):
    return as_dataset(elements).repeat().skip(step)


def trained(strategy, directory, make, epochs=1, clip_norm=None, first=0):
    """A model that the project's loop has trained, and its reports."""
    with strategy.scope():
        model = make()
        rate = HoldThenDecay(0.5, STEPS, hold_epochs=1, decay=0.5)
        model.compile(keras.optimizers.SGD(rate, momentum=0.9), clip_norm=clip_norm, jit_compile=False)
    loop, hooks = Loop(model, stream, STEPS, directory, checkpoint_seconds=0.0), RecordingHooks()
    assert loop.restore() == first
    loop.run(first, epochs, hooks)
    return model, hooks.reports


def state_of(model):
    return [tensor.numpy() for tensor in model.training_state()["state"].read()]


def one_by_one(make, count, data):
    """What each of `count` replicas gives, computed one after the other on one device; the model, too."""
    model = make()
    steps = []
    for replica in range(count):
        rows = len(data[1]) // count
        own = tf.nest.map_structure(lambda part: tf.constant(part[replica * rows :][:rows]), data)  # noqa: B023
        batch = training.unpack(own)
        state = None if batch.is_first is None else initial_state(model.network, rows)
        seed = noise.derive(noise.make_seed(model.seed), 0, replica)
        steps.append(
            training.free_energy_gradients(model.objective, batch, state, seed, model.step_kl_weight())
        )
    return model, steps


def mean(parts):
    return [np.mean([part.numpy() for part in each], axis=0) for each in zip(*parts, strict=True)]


def sharpened_language_model(**arguments):
    return language_model(sharpening=PosteriorSharpening(0.3), layers=[Dropout(0.3, seed=0)], **arguments)


@pytest.mark.parametrize(
    ("make", "data", "count"),
    [
        (lambda **arguments: language_model(layers=[Dropout(0.3)], **arguments), ELEMENTS[0], 4),
        (sharpened_language_model, ELEMENTS[0], 2),
        (regression, tuple(part[:ROWS] for part in regression_data()), 2),
    ],
    ids=["language model", "sharpened", "regression"],
)
class TestOneStep:
    """A minibatch over `count` replicas is `count` minibatches of their rows and draws, averaged."""

    @pytest.mark.slow
    def test_free_energy_and_gradients(self, mirrored, make, data, count):
        strategy = mirrored(count)
        with strategy.scope():
            model = make(run_eagerly=False)
        seen = []

        def one(batch):
            update = training.over_replicas
            seen.clear()
            training.over_replicas = lambda *args: seen.append(update(*args)) or seen[-1]
            try:
                figures = model.update(batch)
            finally:
                training.over_replicas = update
            return figures, seen[-1].gradients, seen[-1].sharpening_gradients

        run = tf.function(lambda batch: strategy.run(one, args=(batch,)), autograph=False)
        batch = next(replicas.stream(strategy, lambda step: as_dataset([data]), 0))
        figures, gradients, of_u = replicas.first(strategy, run(batch))
        oracle, steps = one_by_one(make, count, data)
        for actual, wanted in zip(gradients, mean([step.gradients for step in steps]), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
        for actual, wanted in zip(of_u, mean([step.sharpening_gradients for step in steps]), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-6)
        assert (oracle.sharpening is None) == (not of_u)
        energies = [step.energy for step in steps]
        predictions = sum(float(energy.nll.predictions) for energy in energies)
        wanted = {
            "loss": np.mean([energy.of_data for energy in energies]),
            "free_energy": np.mean([energy.loss for energy in energies]),
            "kl": np.mean([energy.kl for energy in energies]),
            "nll": sum(float(energy.nll.total) for energy in energies) / predictions,
            "kl_sharpening": sum(float(energy.kl_sharpening) for energy in energies) / predictions,
            "learning_rate": float(oracle.optimizer.learning_rate),
            "gradient_norm": np.sqrt(sum(np.sum(np.square(each)) for each in map(np.asarray, gradients))),
        }
        assert figures.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(figures[name], value, rtol=1e-5, err_msg=name)
        # Different draws, not the same one in every replica.
        assert len({float(energy.kl) for energy in energies}) == count


class TestClipping:
    @pytest.mark.slow
    def test_is_of_the_global_gradient(self, mirrored, tmp_path):
        clip, count = 0.5, 2
        strategy = mirrored(count)
        with strategy.scope():
            model = language_model(run_eagerly=False)
            model.compile(keras.optimizers.SGD(1.0), clip_norm=clip, jit_compile=False)
        before = values(model.trainable_variables)
        Loop(model, lambda step: stream(step, ELEMENTS[:1]), 1, tmp_path).run(0, 1, RecordingHooks())
        moved = [b - a for a, b in zip(values(model.trainable_variables), before, strict=True)]
        oracle, steps = one_by_one(language_model, count, ELEMENTS[0])
        assert_identical(values(oracle.trainable_variables), before)
        whole, norm = tf.clip_by_global_norm(mean([step.gradients for step in steps]), clip)
        apart = mean([tf.clip_by_global_norm(step.gradients, clip)[0] for step in steps])
        for actual, wanted in zip(moved, whole, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-3, atol=1e-6)
        assert float(norm) > 2 * clip
        assert any(not np.allclose(a, b, rtol=0.05, atol=1e-4) for a, b in zip(moved, apart, strict=True))
        assert np.sqrt(sum(np.sum(np.square(each)) for each in moved)) == pytest.approx(clip, rel=1e-4)


class TestFit:
    @pytest.mark.slow
    @pytest.mark.parametrize(("count", "clip_norm"), [(1, 0.5), (2, None), (2, 0.5)])
    def test_takes_the_steps_of_the_loop(self, mirrored, tmp_path, count, clip_norm):
        strategy = mirrored(count)
        looped, reports = trained(strategy, tmp_path, sharpened_language_model, 2, clip_norm)
        with strategy.scope():
            fitted = sharpened_language_model(run_eagerly=False)
            rate = HoldThenDecay(0.5, STEPS, hold_epochs=1, decay=0.5)
            fitted.compile(keras.optimizers.SGD(rate, momentum=0.9), clip_norm=clip_norm, jit_compile=False)
        history = fitted.fit(as_dataset(ELEMENTS), epochs=2, verbose=0).history
        assert_identical(values(looped.variables), values(fitted.variables))
        assert_identical(values(looped.optimizer.variables), values(fitted.optimizer.variables))
        for name, by_epoch in history.items():
            assert by_epoch == [report.logs[name] for report in reports], name

    @pytest.mark.slow
    def test_evaluates_and_predicts_like_one_replica(self, mirrored):
        results = []
        for count in (1, 2):
            with mirrored(count).scope():
                model = language_model(run_eagerly=False)
            figures = model.evaluate(as_dataset(ELEMENTS), verbose=0, return_dict=True)
            results.append((figures, model.predict(ELEMENTS[0][0], batch_size=ROWS, verbose=0)))
        (one, outputs_of_one), (two, outputs_of_two) = results
        assert one.keys() == two.keys()
        for name in one:
            assert two[name] == pytest.approx(one[name], rel=1e-5)
        np.testing.assert_allclose(outputs_of_two, outputs_of_one, atol=1e-5)


def without_noise(**arguments):
    """So that the number of replicas does not matter."""
    layers = [keras.layers.Dense(1, kernel_initializer="ones")]
    return regression(layers, training_rows=None, **arguments)


def not_a_number_without_rows(**arguments):
    """A replica that has no rows finds no mean over them."""
    centred = keras.layers.Lambda(lambda x: x - keras.ops.stop_gradient(keras.ops.mean(x, axis=0)) / 1e3)
    regularised = keras.layers.Dense(
        1, kernel_initializer="ones", activity_regularizer=keras.regularizers.L2()
    )
    return regression([centred, regularised], training_rows=None, **arguments)


class TestUnequalRows:
    """The denominators are those of the whole minibatch, whatever is known of its parts beforehand."""

    def assert_as_one_replica(self, strategy, run, make=without_noise):
        """`run(model, inputs, targets)` moves variables and gives a loss as on one replica."""
        found = []
        for scope in (tf.distribute.get_strategy().scope(), strategy.scope()):
            with scope:
                model = make(run_eagerly=False)
            before = values(model.trainable_variables)
            loss = run(model)
            moved = [b - a for a, b in zip(values(model.trainable_variables), before, strict=True)]
            found.append([loss, *moved])
        for one, several in zip(*found, strict=True):
            assert np.all(one != 0.0)
            np.testing.assert_allclose(several, one, rtol=1e-5)

    @pytest.mark.slow(but=["3 + 2, 1 + 0"])
    @pytest.mark.parametrize(
        ("count", "rows", "batch_size", "run_eagerly"),
        [(2, 6, 5, False), (2, 5, 4, True), (2, 7, 4, True), (4, 5, 4, True)],
        ids=["3 + 2, 1 + 0", "2 + 2, 1 + 0", "2 + 2, 2 + 1", "4 x 1, 1 + 0 + 0 + 0"],
    )
    def test_in_fit(self, mirrored, count, rows, batch_size, run_eagerly):
        inputs, targets = regression_data(rows=rows)

        def run(model):
            model.compile(keras.optimizers.SGD(0.1), run_eagerly=run_eagerly)
            return model.fit(inputs, targets, batch_size=batch_size, shuffle=False, verbose=0).history["loss"]

        self.assert_as_one_replica(mirrored(count), run)

    @pytest.mark.slow(but=["traced-(2, 1)", "eager-(0, 3)"])
    @pytest.mark.parametrize("parts", [(2, 1), (1, 0), (0, 3)], ids=str)
    @pytest.mark.parametrize("compiled", [True, False], ids=["traced", "eager"])
    def test_in_a_loop_of_ones_own(self, mirrored, parts, compiled):
        """Every replica knows its own number of rows before the step, and no other's."""
        inputs, targets = regression_data(rows=sum(parts))

        def rows_of(context):
            first = sum(parts[: context.replica_id_in_sync_group])
            last = first + parts[context.replica_id_in_sync_group]
            return tf.constant(inputs[first:last]), tf.constant(targets[first:last])

        def run(model):
            strategy = model.distribute_strategy
            if strategy.num_replicas_in_sync == 1:
                return model.update((inputs, targets))["loss"]
            data = strategy.experimental_distribute_values_from_function(rows_of)

            def step():
                return strategy.run(model.update, args=(data,))

            model.compile(keras.optimizers.SGD(0.1), jit_compile=False, run_eagerly=not compiled)
            figures = (tf.function(step, autograph=False) if compiled else step)()
            for value in strategy.experimental_local_results(figures["loss"]):
                assert value == replicas.first(strategy, figures["loss"])
            return replicas.first(strategy, figures["loss"])

        self.assert_as_one_replica(mirrored(2), run)

    @pytest.mark.slow
    def test_what_is_not_a_number_without_rows(self, mirrored):
        inputs, targets = regression_data(rows=5)
        with mirrored(2).scope():
            model = not_a_number_without_rows(run_eagerly=True)
        history = model.fit(inputs, targets, batch_size=4, shuffle=False, verbose=0).history
        for value in [*values(model.weights), *history.values()]:
            assert np.all(np.isfinite(value))


@pytest.mark.usefixtures("eagerly")
class TestRunningOn:
    @pytest.mark.slow
    def test_without_noise_the_number_of_replicas_does_not_matter(self, mirrored, tmp_path):
        """Each replica's rows, states and targets are its own, or this would not come out."""
        models = {
            count: trained(mirrored(count), tmp_path / str(count), point_mass_language_model, 2, 0.5)[0]
            for count in (1, 2, 4)
        }
        for count in (2, 4):
            for one, several in zip(
                values(models[1].variables), values(models[count].variables), strict=True
            ):
                np.testing.assert_allclose(several, one, rtol=1e-3, atol=1e-5)
            for one, several in zip(state_of(models[1]), state_of(models[count]), strict=True):
                np.testing.assert_allclose(several, one, rtol=1e-3, atol=1e-5)

    @pytest.mark.slow
    def test_resumes_bit_for_bit(self, mirrored, tmp_path):
        whole, reports = trained(mirrored(), tmp_path / "whole", sharpened_language_model, epochs=3)
        trained(mirrored(), tmp_path / "parts", sharpened_language_model, epochs=1)
        parts, last = trained(mirrored(), tmp_path / "parts", sharpened_language_model, 3, first=STEPS)
        assert_identical(values(parts.variables), values(whole.variables))
        assert_identical(values(parts.optimizer.variables), values(whole.optimizer.variables))
        assert_identical(state_of(parts), state_of(whole))
        assert [report.logs for report in last] == [report.logs for report in reports[1:]]

    @pytest.mark.slow(but=["1-2"])
    @pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 4)])
    def test_goes_on_with_another_number_of_replicas(self, mirrored, tmp_path, before, after):
        first, _ = trained(mirrored(before), tmp_path, language_model)
        strategy = mirrored(after)
        with strategy.scope():
            model = language_model(run_eagerly=False)
            model.compile(
                keras.optimizers.SGD(HoldThenDecay(0.5, STEPS, 1, 0.5), momentum=0.9), jit_compile=False
            )
        loop, hooks = Loop(model, stream, STEPS, tmp_path), RecordingHooks()
        assert loop.restore() == STEPS
        assert_identical(values(model.variables), values(first.variables))
        assert_identical(state_of(model), state_of(first))
        assert float(model.get_metrics_result()["loss"]) == pytest.approx(
            float(first.get_metrics_result()["loss"]), rel=1e-6
        )
        loop.run(STEPS, 2, hooks)
        assert hooks.reports[0].step == 2 * STEPS


class TestStream:
    def test_replicas_have_contiguous_rows_in_their_order(self, mirrored):
        strategy = mirrored(2)
        batches = replicas.stream(strategy, stream, 1)
        for element in (ELEMENTS[1], ELEMENTS[2]):
            parts = strategy.experimental_local_results(next(batches)[0]["inputs"])
            assert [part.shape for part in parts] == [(2, 4), (2, 4)]
            np.testing.assert_array_equal(np.concatenate(parts), element[0]["inputs"])

    @pytest.mark.slow(but=["2-True-64", "2-False-1", "16384-True-7"])
    @pytest.mark.parametrize(
        ("rows", "drop_remainder", "group"),
        [(2, True, 64), (2, False, 1), (2**14, True, 7), (2**18, True, 1)],
    )
    def test_small_minibatches_of_one_shape_are_fetched_together(self, rows, drop_remainder, group):
        """64 at a time, fewer where they are large, one where any could have another shape."""
        numbers = tf.data.Dataset.range(70 * rows).batch(rows, drop_remainder=drop_remainder)
        dataset = numbers.map(lambda x: {"x": x, "first": x[0] == 0})
        assert replicas._group_size(dataset.element_spec) == group
        found = list(replicas.stream(tf.distribute.get_strategy(), lambda step: dataset, 0))
        np.testing.assert_array_equal([batch["x"] for batch in found], np.arange(70 * rows).reshape(70, -1))
        assert [bool(batch["first"]) for batch in found] == [True] + [False] * 69

    def test_rows_that_cannot_be_shared_out(self, mirrored):
        with pytest.raises(InputError, match=r"minibatch of 4 cannot be shared out over 3 .* multiple of 3"):
            next(replicas.stream(mirrored(3), stream, 0))


class TestReplicaVariables:
    @pytest.mark.parametrize("rows", [True, False])
    def test_read_and_written_whole(self, mirrored, rows):
        strategy = mirrored(2)
        with strategy.scope():
            variable = replicas.variable(tf.zeros([2, 3]), "state")
        held = replicas.ReplicaVariables(strategy, [variable], rows)
        content = np.arange(12.0, dtype=np.float32).reshape([4, 3] if rows else [2, 2, 3])
        held.write([content])
        assert held.shapes() == [(4, 3) if rows else (None, 2, 3)]
        np.testing.assert_array_equal(held.read()[0], content)
        own = strategy.experimental_local_results(variable)
        np.testing.assert_array_equal(own[1], content[2:] if rows else content[1])
