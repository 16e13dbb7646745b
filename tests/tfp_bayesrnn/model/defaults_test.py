"""The defaults of priors, scales, warm-up and optimizer: they learn what Keras's layers learn."""

import keras
import numpy as np
import pytest

from tfp_bayesrnn import (
    BayesianModel,
    FanInNormalPrior,
    KTiedNormal,
    MeanFieldNormal,
    NormalLikelihood,
    NormalPrior,
    VariationalDense,
    VariationalEmbedding,
    VariationalGRU,
    VariationalLSTM,
    released,
)


def tagged(rows, steps, seed):
    """Pairs of bits [rows, steps, 2], and the XOR of each."""
    bits = np.random.default_rng(seed).integers(0, 2, (rows, steps, 2)).astype(np.float32)
    return bits, (bits[..., 0] != bits[..., 1]).astype(np.int32)


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_tags_by_xor_in_thirty_epochs(seed):
    """By the released values and SGD the accuracy is that of guessing, after 90 epochs too."""
    keras.utils.set_random_seed(seed)
    network = [VariationalLSTM(32, return_sequences=True), VariationalDense(2)]
    model = BayesianModel(keras.Sequential(network), seed=seed)
    model.compile(steps_per_execution=32)
    model.fit(*tagged(1_024, 8, seed), epochs=30, verbose=0)
    inputs, targets = tagged(256, 8, 100 + seed)
    assert np.mean(model.predict(inputs, verbose=0).argmax(-1) == targets) == 1.0


def series(rows, seed):
    """A series and a covariate [rows, 24, 2], and how the series goes on [rows, 24], with noise of 0.5."""
    generator = np.random.default_rng(seed)
    time = np.arange(48) + generator.integers(0, 10_000, (rows, 1))
    walk = np.sin(2 * np.pi * time / 24 + 1) + 0.1 * np.cumsum(generator.normal(size=(rows, 48)), 1)
    level = generator.normal(size=(rows, 1))
    values = np.sin(2 * np.pi * time / 24) * (1 + 0.3 * level) + 0.5 * np.tanh(walk) + 0.5 * level
    values += 0.5 * generator.normal(size=values.shape)
    inputs = np.stack([values[:, :24], walk[:, :24]], -1)
    return inputs.astype(np.float32), values[:, 24:].astype(np.float32)


@pytest.mark.slow
def test_it_forecasts_as_well_as_keras_s_layers():
    inputs, targets = series(300, 0)
    unseen, expected = series(1_000, 1)
    errors = {}
    for kind, (lstm, dense) in {
        "Keras": (keras.layers.LSTM, keras.layers.Dense),
        "ours": (VariationalLSTM, VariationalDense),
    }.items():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([lstm(32), dense(24)])
        if kind == "Keras":
            model.compile("adam", "mse", steps_per_execution=10)
        else:
            model = BayesianModel(model, likelihood=NormalLikelihood(0.5))
            model.compile(steps_per_execution=10)
        model.fit(inputs, targets, epochs=150, verbose=0)
        errors[kind] = np.sqrt(np.mean((model.predict(unseen, verbose=0) - expected) ** 2))
    assert errors["ours"] <= 1.01 * errors["Keras"]


@pytest.mark.parametrize(
    ("layer", "shape", "stddevs"),
    [
        (lambda: VariationalDense(4, variational_bias=True), (None, 25), {"kernel": 0.2, "bias": 1.0}),
        (
            lambda: VariationalLSTM(16),
            (None, 3, 100),
            {"kernel": 0.1, "recurrent_kernel": 0.25, "bias": 1.0},
        ),
        (
            lambda: VariationalGRU(16, posterior=KTiedNormal()),
            (None, 3, 100),
            {"kernel": 0.1, "recurrent_kernel": 0.25},
        ),
        (lambda: VariationalEmbedding(1_000, 4), (None, 3), {"embeddings": 1.0}),
    ],
    ids=["dense", "lstm", "gru, k-tied", "embedding"],
)
def test_scales_follow_from_the_fan_in(layer, shape, stddevs):
    one = layer()
    one.build(shape)
    holder = getattr(one, "cell", one)
    for name, stddev in stddevs.items():
        weight = getattr(holder, name)
        assert type(weight.prior) in (FanInNormalPrior, NormalPrior)
        np.testing.assert_allclose(weight.prior_distribution().stddev(), stddev, rtol=1e-6)
        scale = weight.scale().numpy() / stddev
        # sigma has a floor of 1e-5 of its own.
        assert 0.0199 <= scale.min() < scale.max() <= 0.0502


def test_the_released_values_have_a_name():
    for arguments, ends in ((released.RECURRENT, (0.25, 0.5)), (released.OTHERS, (0.5, 1.0))):
        layer = VariationalDense(2, **arguments)
        assert layer.prior.get_config() == {
            "pi": 0.25,
            "log_sigma1": -1.0,
            "log_sigma2": -7.0,
            "granularity": "row",
        }
        assert type(layer.posterior) is MeanFieldNormal
        assert layer.posterior.scale_range == ends


def test_a_model_keeps_its_own_values_when_it_is_loaded(tmp_path):
    model = BayesianModel(keras.Sequential([keras.Input((3,)), VariationalDense(2, **released.OTHERS)]), 4)
    model.build((None, 3))
    model.save(tmp_path / "m.keras")
    (layer,) = keras.saving.load_model(tmp_path / "m.keras").network.layers
    assert layer.prior.get_config() == released.PRIOR.get_config()
    assert layer.posterior.scale_range == (0.5, 1.0)


@pytest.mark.parametrize("gain", [0.0, -1.0, np.inf, np.nan])
def test_a_gain_that_is_not_positive(gain):
    with pytest.raises(ValueError, match=r"gain must be positive\. Received: gain="):
        FanInNormalPrior(gain)
