"""Posteriors and priors of converted networks: scales, KL, training, saving."""

import math
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from conversion_models import (
    ROWS,
    STEPS,
    UNITS,
    assert_same,
    converted,
    features,
    ids,
    language_model,
    scramble,
    sequential,
    wrap,
)

from tfp_bayesrnn import (
    CategoricalLikelihood,
    CentredNormalPrior,
    FanInNormalPrior,
    InputError,
    MeanFieldNormal,
    NormalLikelihood,
    NormalPrior,
    PointMass,
    PosteriorSharpening,
    VariationalWeight,
    to_deterministic,
)
from tfp_bayesrnn.posterior import pruning

layers = keras.layers


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(5)


class TestScalesAndPriors:
    def test_relative_scale(self):
        model = language_model()
        model.layers[1].cell.bias.assign(np.zeros(4 * UNITS))
        for arguments, factor in (({}, 0.1), ({"relative_scale": 0.3}, 0.3)):
            bayesian = converted(model, **arguments)
            for weight in bayesian.posterior.variational:
                expected = np.maximum(factor * np.abs(weight.mu.numpy()), 1e-4)
                # rho is float32: about 10 at 1e-5, so sigma has a relative error of 1e-6 there.
                np.testing.assert_allclose(weight.scale(), expected, rtol=1e-5)

    def test_fixed_scale(self):
        for weight in converted(language_model(), initial_scale=0.05).posterior.variational:
            np.testing.assert_allclose(weight.scale(), 0.05, rtol=1e-5)

    def test_range_of_scales_follows_the_seed(self):
        model = language_model()
        one, same, other = (
            np.concatenate(
                [
                    np.ravel(weight.scale())
                    for weight in converted(
                        model, initial_scale=(0.02, 0.08), seed=seed
                    ).posterior.variational
                ]
            )
            for seed in (1, 1, 2)
        )
        assert 0.02 - 1e-6 < one.min() < 0.03 < 0.07 < one.max() < 0.08 + 1e-6
        np.testing.assert_array_equal(one, same)
        assert not np.allclose(one, other)

    def test_bias_of_dense_is_a_point(self):
        bayesian = converted(language_model())
        dense = bayesian.network.layers[2]
        assert isinstance(dense.bias.posterior, PointMass)
        assert len(bayesian.posterior.variational) == 5

    def test_the_prior_by_default_is_the_library_s(self):
        for weight in converted(language_model(), prior="zero").posterior.variational:
            kind = NormalPrior if weight.name == "embeddings" else FanInNormalPrior
            assert type(weight.prior) is kind
            assert weight.prior.get_config() == kind().get_config()

    def test_another_prior(self):
        prior = NormalPrior(0.4)
        assert all(w.prior is prior for w in converted(language_model(), prior=prior).posterior.variational)

    @pytest.mark.parametrize("scale", [1.0, 0.25])
    def test_kl_to_the_empirical_prior(self, scale):
        prior = "empirical" if scale == 1.0 else CentredNormalPrior(scale)
        bayesian = converted(language_model(), prior=prior, initial_scale=0.05)
        count = sum(math.prod(weight.shape) for weight in bayesian.posterior.variational)
        for weight in bayesian.posterior.variational:
            np.testing.assert_array_equal(weight.prior_distribution().distribution.loc, weight.mu.numpy())
        expected = count * (math.log(scale / 0.05) + 0.5 * (0.05 / scale) ** 2 - 0.5)
        kl = bayesian.posterior.kl(bayesian.posterior.sample(0))
        np.testing.assert_allclose(kl, expected, rtol=1e-5)

    def test_centres_stay_where_the_means_were(self):
        bayesian = converted(language_model(), prior="empirical", initial_scale=0.05)
        weight = bayesian.posterior.variational[0]
        before = bayesian.posterior.kl(bayesian.posterior.mean())
        weight.mu.assign(weight.mu + 0.1)
        after = bayesian.posterior.kl(bayesian.posterior.mean())
        expected = 0.5 * 0.1**2 * math.prod(weight.shape)
        # The difference of two sums of some 700 nats in float32.
        np.testing.assert_allclose(after - before, expected, atol=2e-3)

    def test_a_pruned_weight_has_the_marginal_of_the_empirical_prior(self):
        bayesian = converted(language_model(), prior="empirical", initial_scale=0.05)
        whole = bayesian.posterior.kl(bayesian.posterior.mean())
        masks = pruning.masks(bayesian.posterior, 0.5, scope="weight", by="magnitude")
        pruning.prune(bayesian.posterior, masks)
        kept = bayesian.posterior.kl(bayesian.posterior.mean())
        kept_count = sum(masks[weight].sum() for weight in bayesian.posterior.variational)
        count = sum(math.prod(weight.shape) for weight in bayesian.posterior.variational)
        np.testing.assert_allclose(kept, whole * kept_count / count, rtol=1e-5)
        plain = to_deterministic(bayesian)
        assert_same(plain(ids()), bayesian(ids()))
        np.testing.assert_array_equal(plain.layers[1].cell.kernel == 0.0, ~masks[kernel_of(bayesian)])


def kernel_of(model):
    return model.network.layers[1].cell.kernel


class TestCentredNormalPrior:
    def test_around_zero_it_is_a_normal(self):
        weight = VariationalWeight(
            (4, 3), keras.initializers.Ones(), CentredNormalPrior(0.3, centre=0.0), MeanFieldNormal()
        )
        weight.build()
        reference = NormalPrior(0.3).distribution((4, 3))
        value = features((4, 3))
        np.testing.assert_allclose(
            weight.prior_distribution().log_prob(value), reference.log_prob(value), rtol=1e-6
        )
        assert len(weight.trainable_variables) == 2
        assert len(weight.non_trainable_variables) == 1
        assert weight.prior.stddev((4, 3)) == 0.3
        np.testing.assert_allclose(
            weight.prior.distribution((4, 3)).log_prob(value), reference.log_prob(value)
        )

    @pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
    def test_its_scale_is_positive(self, scale):
        with pytest.raises(ValueError, match=r"scale must be positive. Received"):
            CentredNormalPrior(scale)


class TestTraining:
    @pytest.mark.slow
    @pytest.mark.parametrize("prior", ["zero", "empirical"])
    def test_fit_lowers_the_objective(self, prior):
        bayesian = converted(language_model(), prior=prior, training_rows=ROWS)
        assert bayesian.built
        bayesian.compile(keras.optimizers.Adam(0.05), run_eagerly=True)
        history = bayesian.fit(ids(), ids(), batch_size=ROWS, epochs=25, verbose=0).history
        assert np.isfinite(history["kl"]).all()
        assert np.mean(history["loss"][-5:]) < 0.9 * np.mean(history["loss"][:5])
        assert history["kl"][-1] < history["kl"][0]

    def test_without_a_gradient_of_the_data_the_empirical_prior_keeps_the_mean(self):
        bayesian = converted(language_model(), prior="empirical", initial_scale=0.05)
        before = [weight.mu.numpy() for weight in bayesian.posterior.variational]
        bayesian.compile(keras.optimizers.SGD(0.5), run_eagerly=True)
        bayesian.fit(ids(), ids(), sample_weight=np.zeros((ROWS, STEPS)), epochs=3, verbose=0)
        # The gradient of (mu - centre)^2 is 0 where they are equal, exactly.
        assert_same([weight.mu.numpy() for weight in bayesian.posterior.variational], before, 0.0)
        for weight in bayesian.posterior.variational:
            assert np.all(weight.scale().numpy() > 0.05)

    @pytest.mark.slow
    def test_probabilities_with_a_likelihood_of_them(self):
        model = sequential(layers.Dense(3, activation="softmax"), shape=(4,))
        with pytest.raises(
            InputError, match=r"ends in the softmax.*CategoricalLikelihood\(from_logits=False\)"
        ):
            converted(model)
        bayesian = converted(model, likelihood=CategoricalLikelihood(from_logits=False))
        bayesian.compile(keras.optimizers.SGD(0.1))
        targets = np.array([0, 1, 2, 0])
        expected = -np.log(model(features((ROWS, 4))).numpy()[np.arange(ROWS), targets]).mean()
        nll = bayesian.evaluate(features((ROWS, 4)), targets, return_dict=True, verbose=0)["nll"]
        np.testing.assert_allclose(nll, expected, rtol=1e-5)
        history = bayesian.fit(features((ROWS, 4)), targets, verbose=0).history
        assert np.isfinite(history["loss"]).all()

    def test_layers_that_stay_train_too_and_sharpening_is_taken(self):
        model = sequential(
            layers.BatchNormalization(), layers.Dense(UNITS), layers.Dropout(0.2), layers.Dense(1), shape=(4,)
        )
        bayesian = converted(
            model, likelihood=NormalLikelihood(0.5), sharpening=PosteriorSharpening(0.02), name="sharp"
        )
        assert bayesian.name == "sharp"
        bayesian.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        moving = bayesian.network.layers[0].moving_mean.numpy()
        history = bayesian.fit(features((ROWS, 4)), features((ROWS, 1)), verbose=0).history
        assert np.isfinite(history["loss"]).all()
        assert not np.allclose(bayesian.network.layers[0].moving_mean.numpy(), moving)

    def test_state_is_carried_through_a_converted_stream(self):
        model = language_model()
        bayesian = converted(model)
        bayesian.compile(keras.optimizers.SGD(0.0), jit_compile=False)
        whole = ids(steps=6, seed=3)
        whole[whole == 0] = 1
        stream = tf.data.Dataset.from_tensor_slices(
            (
                {
                    "inputs": np.stack([whole[:, :3], whole[:, 3:]]),
                    "is_first": np.stack([np.ones(ROWS, bool), np.zeros(ROWS, bool)]),
                },
                np.stack([whole[:, :3], whole[:, 3:]]),
            )
        )
        nll = bayesian.evaluate(stream, return_dict=True, verbose=0)["nll"]
        expected = keras.losses.sparse_categorical_crossentropy(whole, model(whole), from_logits=True)
        np.testing.assert_allclose(nll, np.mean(expected), rtol=1e-5)


class TestSaving:
    @pytest.mark.parametrize("prior", ["zero", "empirical"])
    def test_a_converted_model(self, prior, tmp_path):
        inputs = keras.Input((None, 4))
        outputs = layers.Dense(2)(wrap(return_sequences=True)(inputs))
        bayesian = converted(scramble(keras.Model(inputs, outputs)), prior=prior, initial_scale=(0.02, 0.05))
        moved = bayesian.posterior.variational[0]
        moved.mu.assign(moved.mu + 0.5)  # Away from its centre.
        bayesian.compile(keras.optimizers.SGD(0.1))
        bayesian.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        assert_same(loaded(features()), bayesian(features()), 0.0)
        kls = [model.posterior.kl(model.posterior.sample(3)) for model in (loaded, bayesian)]
        assert_same(*kls, 0.0)
        pairs = zip(loaded.weights, bayesian.weights, strict=True)
        assert all(np.array_equal(one.numpy(), other.numpy()) for one, other in pairs)

    @pytest.mark.slow
    def test_a_deterministic_one_needs_nothing_of_this_library(self, tmp_path):
        bayesian = converted(language_model(mask_zero=True))
        plain = to_deterministic(bayesian)
        path, inputs, outputs = (tmp_path / name for name in ("plain.keras", "in.npy", "out.npy"))
        plain.save(path)
        with zipfile.ZipFile(path) as archive:
            assert b"tfp_bayesrnn" not in archive.read("config.json")
        np.save(inputs, ids())
        program = (
            "import sys, keras, numpy as np\n"
            f"outputs = keras.models.load_model({str(path)!r})(np.load({str(inputs)!r}))\n"
            f"np.save({str(outputs)!r}, outputs)\n"
            "assert not {'tfp_bayesrnn', 'tensorflow_probability'} & set(sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=120, cwd=tmp_path)
        assert_same(np.load(outputs), bayesian(ids()))
