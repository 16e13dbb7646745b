"""`BayesianModel` under `fit`: draws, objective, update, logs; against the same computed by hand."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import small_models
import tensorflow as tf
from small_models import PRIOR, values
from steps_by_hand import CLOSE, X, Y, free_energy_of, train

from tfp_bayesrnn import BayesianModel, NormalPrior, VariationalDense
from tfp_bayesrnn.model import training
from tfp_bayesrnn.posterior import ambient


class TestDraws:
    def test_every_step_has_a_draw_of_its_own_that_seed_and_step_determine(self):
        model = small_models.regression()
        model.optimizer.learning_rate = 0.0  # Only the draw changes from step to step.
        losses = []
        for _ in range(3):
            expected, _, _ = free_energy_of(model, X, Y, model.posterior.sample(model.step_seed()))
            (logs,) = train(model)
            np.testing.assert_allclose(logs["free_energy"], expected, **CLOSE)
            losses.append(logs["free_energy"])
        assert len(set(losses)) == 3
        again = [logs["free_energy"] for logs in train(small_models.regression(), 3)]
        assert again[0] == losses[0]
        other_seed = small_models.regression(seed=4)
        assert train(other_seed)[0]["free_energy"] != losses[0]

    def test_a_step_has_one_draw_however_often_a_weight_is_used(self):
        """A network that uses a weight twice: outputs that differ would be the two draws of one step."""

        def disagreement(targets, outputs):
            return tf.square(outputs[:, :1] - outputs[:, 1:]) + 0.0 * targets

        layer, inputs = VariationalDense(1, prior=PRIOR), keras.Input((3,))
        network = keras.Model(inputs, keras.layers.Concatenate()([layer(inputs), layer(inputs)]))
        model = BayesianModel(network, training_rows=6, likelihood=disagreement)
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        assert train(model)[0]["nll"] == 0.0
        assert len(model.posterior.weights) == 2  # Kernel and bias, so their KL is counted once too.


class TestLoss:
    def test_is_the_free_energy_at_the_draw_of_the_step(self):
        """Nothing of the library but the draw itself: the densities are SciPy's, in float64."""
        model = small_models.regression([VariationalDense(1, use_bias=False, prior=PRIOR)])
        (weight,) = model.posterior.weights
        w = model.posterior.sample(model.step_seed())[weight].numpy().astype(np.float64)
        nll = -scipy.stats.norm.logpdf(Y, X @ w, 0.5)
        log_q = scipy.stats.norm.logpdf(w, weight.mean(), weight.scale()).sum()
        # One choice of the component for each row of the kernel.
        log_p = scipy.special.logsumexp(
            [
                np.log(probability) + scipy.stats.norm.logpdf(w, 0.0, np.exp(log_sigma)).sum(axis=-1)
                for probability, log_sigma in ((PRIOR.pi, PRIOR.log_sigma1), (1 - PRIOR.pi, PRIOR.log_sigma2))
            ],
            axis=0,
        ).sum()
        (logs,) = train(model)
        np.testing.assert_allclose(logs["kl"], log_q - log_p, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(logs["nll"], nll.mean(), **CLOSE)
        np.testing.assert_allclose(logs["free_energy"], nll.sum() / 6 + (log_q - log_p) / 6, rtol=1e-5)

    def test_of_sequences_is_a_sum_over_time(self):
        model = small_models.language_model()
        ids = small_models.tokens(rows=3)
        draw = model.posterior.sample(model.step_seed())
        with ambient.under(draw):
            log_p = tf.nn.log_softmax(model.network(ids[:, :-1], training=True))
        nats = -tf.gather(log_p, ids[:, 1:], batch_dims=2).numpy()
        kl = float(model.posterior.kl(draw))
        logs = model.train_on_batch(ids[:, :-1], ids[:, 1:], return_dict=True)
        expected = {
            "free_energy": nats.sum(axis=1).mean() + kl / 6,
            "kl": kl,
            "nll": nats.mean(),
            "perplexity": np.exp(nats.mean()),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(logs[name], value, **CLOSE, err_msg=name)

    def test_sample_weight_leaves_rows_out(self):
        model = small_models.regression()
        draw = model.posterior.sample(model.step_seed())
        with ambient.under(draw):
            outputs = model.network(X, training=True).numpy()
        nats = -scipy.stats.norm.logpdf(Y, outputs, 0.5)[:4]
        kl = float(model.posterior.kl(draw))
        (logs,) = train(model, sample_weight=np.array([1, 1, 1, 1, 0, 0], np.float32))
        np.testing.assert_allclose(logs["nll"], nats.mean(), **CLOSE)
        np.testing.assert_allclose(logs["free_energy"], nats.sum() / 6 + kl / 6, **CLOSE)

    def test_the_networks_own_regularisers_are_added(self):
        dense = keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.7))
        model = small_models.regression([dense, VariationalDense(1, prior=PRIOR)])
        penalty = 0.7 * np.sum(np.square(dense.kernel.numpy()))
        free_energy, _, _ = free_energy_of(model, X, Y, model.posterior.sample(model.step_seed()))
        np.testing.assert_allclose(train(model)[0]["free_energy"], free_energy + penalty, **CLOSE)

    @pytest.mark.parametrize("kl_weight", [1.0, 0.5])
    def test_kl_warm_up_rises_from_zero_by_the_step(self, kl_weight):
        model = small_models.regression(kl_weight=kl_weight, kl_warmup_steps=4)
        for expected in (0.0, 0.25, 0.5, 0.75, 1.0, 1.0):
            (logs,) = train(model)
            # Of six rows with one prediction each, the mean over rows is `nll`.
            weight = (logs["free_energy"] - logs["nll"]) * 6 / logs["kl"]
            np.testing.assert_allclose(weight, kl_weight * expected, rtol=1e-4, atol=1e-6)


class TestGradients:
    STEP = 1e-2

    def test_are_those_of_the_free_energy_under_frozen_noise(self):
        """Central differences. Their own error at this step: float32 rounding of a loss of size 10 over the
        step, 1e-6 / 1e-2 = 1e-4 at a few roundings, and a third derivative of size 10 times 1e-4 / 6.
        """
        layers = [
            VariationalDense(2, activation="tanh", prior=PRIOR),
            keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.7)),
            VariationalDense(1, prior=NormalPrior(0.5, learned=True)),
        ]
        model = small_models.regression(layers)
        batch, seed, kl_weight = training.unpack((X, Y)), tf.constant([5, 6]), tf.constant(0.8)

        def run():
            return training.free_energy_gradients(model.objective, batch, None, seed, kl_weight)

        gradients = run().gradients
        checked = set()
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            value = variable.numpy()
            for index in [tuple(0 for _ in value.shape), tuple(size - 1 for size in value.shape)]:
                ends = []
                for sign in (1, -1):
                    moved = np.array(value)
                    moved[index] += sign * self.STEP
                    variable.assign(moved)
                    ends.append(float(run().energy.loss))
                variable.assign(value)
                difference = (ends[0] - ends[1]) / (2 * self.STEP)
                np.testing.assert_allclose(
                    gradient.numpy()[index], difference, rtol=5e-3, atol=1e-2, err_msg=variable.path
                )
            checked.add(variable.name)
        assert checked == {"mu", "rho", "prior_log_scale", "kernel", "bias"}

    @pytest.mark.parametrize("clip_norm", [None, 0.5, 1e3])
    def test_are_clipped_to_one_norm_over_all_variables(self, clip_norm):
        model = small_models.regression(compiled=False)
        model.compile(keras.optimizers.SGD(1.0), clip_norm=clip_norm, run_eagerly=True)
        before = values(model.trainable_variables)
        step = training.free_energy_gradients(
            model.objective, training.unpack((X, Y)), None, model.step_seed(), model.step_kl_weight()
        )
        norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in step.gradients))
        assert 0.5 < norm < 1e3
        (logs,) = train(model)
        np.testing.assert_allclose(logs["gradient_norm"], norm, rtol=1e-5)  # The norm before clipping.
        scale = min(1.0, (clip_norm or np.inf) / norm)
        after = values(model.trainable_variables)
        for old, new, gradient in zip(before, after, step.gradients, strict=True):
            np.testing.assert_allclose(old - new, scale * gradient.numpy(), rtol=1e-4, atol=1e-5)


class TestCompilation:
    @pytest.mark.slow
    def test_xla_takes_the_same_steps(self):
        """Three windows, a carried state, moving averages. The noise agrees to 2e-5 with eager mode's."""
        elements = small_models.windows(small_models.tokens(length=6), unroll=2)
        models = [small_models.language_model(layers=[keras.layers.BatchNormalization()]) for _ in range(2)]
        models[1].compile(keras.optimizers.SGD(0.5), clip_norm=5.0, jit_compile=True)
        before = values(models[0].weights)
        losses = [
            [model.train_on_batch(*data, return_dict=True)["free_energy"] for data in elements]
            for model in models
        ]
        np.testing.assert_allclose(*losses, rtol=1e-4)
        eager, compiled = (values(model.weights) for model in models)
        for old, one, other in zip(before, eager, compiled, strict=True):
            assert np.any(old != one)
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)

    @pytest.mark.slow
    def test_graphs_of_one_and_of_more_steps_take_the_same_steps(self):
        results = []
        for arguments in ({"run_eagerly": True}, {}, {"steps_per_execution": 2}):
            model = small_models.regression(compiled=False)
            model.compile(keras.optimizers.SGD(0.1), jit_compile=False, **arguments)
            model.fit(X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0)
            results.append(values(model.trainable_variables))
        for eager, *graphs in zip(*results, strict=True):
            for graph in graphs:
                np.testing.assert_allclose(graph, eager, **CLOSE)


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"training_rows": 0}, "training_rows=0"),
            ({"training_rows": -3}, "training_rows=-3"),
            ({"kl_weight": -1.0}, "kl_weight=-1.0"),
            ({"training_rows": "bernoulli"}, "training_rows='bernoulli'"),
            ({"training_rows": np.nan}, "training_rows=nan"),
            ({"training_rows": np.ones(3)}, "training_rows=array"),
            ({"training_rows": True}, "training_rows=True"),
            ({"kl_warmup_steps": -1}, "kl_warmup_steps=-1"),
            ({"kl_warmup_steps": "long"}, "kl_warmup_steps='long'"),
            ({"seed": "0"}, "seed='0'"),
            ({"seed": None}, "seed=None"),
            ({"sharpening": True}, "sharpening=True"),
            ({"likelihood": "gamma"}, "likelihood='gamma'"),
        ],
    )
    def test_arguments_out_of_range(self, arguments, message):
        with pytest.raises(ValueError, match=f"Received: .*{message}"):
            BayesianModel(keras.Sequential([VariationalDense(1)]), **arguments)

    @pytest.mark.parametrize(
        "network", [[VariationalDense(1)], VariationalDense(1), None, keras.Input((3,)), keras.Sequential]
    )
    def test_what_is_no_network(self, network):
        with pytest.raises(ValueError, match=r"network must be a keras\.Model.*Received: network="):
            BayesianModel(network, training_rows=4)

    def test_a_loss_is_refused(self):
        with pytest.raises(ValueError, match=r"likelihood=.*Received: loss='mse'"):
            small_models.regression().compile("sgd", loss="mse")

    def test_a_posterior_needs_training_rows_and_point_masses_do_not(self):
        with pytest.raises(ValueError, match="training_rows is needed"):
            train(small_models.regression(training_rows=None))
        ids = small_models.tokens()
        model = small_models.point_mass_language_model()
        logs = model.train_on_batch(ids[:, :-1], ids[:, 1:], return_dict=True)
        np.testing.assert_allclose(logs["loss"], logs["nll"] * (ids.shape[1] - 1), rtol=1e-5)

    def test_a_layer_with_a_kl_weight_would_count_its_kl_twice(self):
        model = small_models.regression([VariationalDense(1, kl_weight=0.1, name="own")])
        with pytest.raises(ValueError, match=r"Received: layer 'own' with kl_weight=0\.1"):
            train(model)


class TestLogs:
    def test_of_an_epoch_weigh_the_smaller_last_batch_as_what_it_is(self):
        x, y = X[:5], Y[:5]
        model = small_models.regression(compiled=False, training_rows=5)
        model.compile(keras.optimizers.SGD(0.0), metrics=["mae"], run_eagerly=True)
        nats, kls, losses, errors = [], [], [], []
        for step, rows in enumerate((slice(0, 2), slice(2, 4), slice(4, 5))):
            model.optimizer.iterations.assign(step)
            draw = model.posterior.sample(model.step_seed())
            with ambient.under(draw):
                outputs = model.network(x[rows], training=True).numpy()
            batch = -scipy.stats.norm.logpdf(y[rows], outputs, 0.5)
            kls.append(float(model.posterior.kl(draw)))
            losses += [batch.mean() + kls[-1] / 5] * len(batch)
            nats += list(batch.ravel())
            errors += list(np.abs(outputs - y[rows]).ravel())
        model.optimizer.iterations.assign(0)
        history = model.fit(x, y, batch_size=2, shuffle=False, verbose=0).history
        expected = {"free_energy": losses, "loss": nats, "nll": nats, "kl": kls, "mae": errors}
        assert set(history) == {*expected, "gradient_norm"}
        for name, parts in expected.items():
            np.testing.assert_allclose(history[name], [np.mean(parts)], **CLOSE, err_msg=name)

    def test_perplexity_is_that_of_all_predictions_not_a_mean_of_perplexities(self):
        model = small_models.language_model(learning_rate=0.0)
        ids = small_models.tokens(rows=3)
        logs = model.fit(ids[:, :-1], ids[:, 1:], batch_size=2, verbose=0).history
        np.testing.assert_allclose(logs["perplexity"], np.exp(logs["nll"]), rtol=1e-6)

    def test_evaluate_scores_the_posterior_mean_the_same_every_time(self):
        model = small_models.regression(compiled=False)
        model.compile(metrics=["mae"], run_eagerly=True)
        hidden, out = model.network.layers
        outputs = np.tanh(X @ hidden.kernel.mean().numpy() + hidden.bias.mean())
        outputs = outputs @ out.kernel.mean().numpy() + out.bias.mean()
        logs = model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True)
        nats = -scipy.stats.norm.logpdf(Y, outputs, 0.5)
        expected = {"loss": nats.mean(), "nll": nats.mean(), "mae": np.abs(outputs - Y).mean()}
        assert set(logs) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(logs[name], value, **CLOSE, err_msg=name)
        assert model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True) == logs
        assert sorted(model.evaluate(X, Y, batch_size=4, verbose=0)) == sorted(logs.values())
        np.testing.assert_allclose(model.predict(X, verbose=0), outputs, **CLOSE)


class TestPrecision:
    @pytest.fixture(params=["mixed_bfloat16", "mixed_float16"])
    def policy(self, request):
        keras.mixed_precision.set_global_policy(request.param)
        yield request.param
        keras.mixed_precision.set_global_policy("float32")

    def test_only_the_networks_arithmetic_is_of_half_precision(self, policy):
        model = small_models.regression()
        assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
        assert model(X).dtype == policy.removeprefix("mixed_")
        step = training.free_energy_gradients(
            model.objective, training.unpack((X, Y)), None, model.step_seed(), model.step_kl_weight()
        )
        tensors = [step.energy.loss, step.energy.kl, *step.energy.nll, *step.gradients]
        assert {tensor.dtype for tensor in tensors} == {tf.float32}
        exact_kl = float(model.posterior.kl(model.posterior.sample(model.step_seed())))
        before = values(model.trainable_variables)
        (logs,) = train(model)
        np.testing.assert_allclose(logs["kl"], exact_kl, rtol=1e-6)
        # The whole gradient arrives: Keras's loss scaling would divide it by 2**15.
        for old, new, gradient in zip(before, model.trainable_variables, step.gradients, strict=True):
            np.testing.assert_allclose(old - new.numpy(), 0.1 * gradient.numpy(), rtol=1e-3, atol=1e-6)
