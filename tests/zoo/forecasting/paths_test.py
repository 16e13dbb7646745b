"""Sample paths against the network run over the whole window, with the path as its past."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import MeanFieldNormal, NormalPrior, noise
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.objective import likelihoods
from tfp_bayesrnn.posterior.posterior import Posterior
from zoo.data.series import Series, SeriesSet
from zoo.forecasting.network import ForecastNetwork
from zoo.forecasting.paths import PathSampler
from zoo.forecasting.splits import Places, vocabulary_of
from zoo.forecasting.windows import Layout, Windows

LAYOUT = Layout(4, 3, (1, 3), "steps", "location_scale", False, False)
RANDOM = np.random.default_rng(0)
SERIES = SeriesSet(
    tuple(
        Series(f"s{index}", RANDOM.poisson(20.0, 12).astype(float), categories=(kind,))
        for index, kind in enumerate("aab")
    ),
    categories=("kind",),
)
PLACES = Places(np.array([0, 1, 2]), np.array([8, 9, 7]))


class Shell:
    """What a sampler needs of a model."""

    def __init__(self, network, likelihood):
        self.network, self.likelihood = network, likelihood
        self.posterior = Posterior.of(network)


def a_model(head="normal", **arguments):
    keras.utils.set_random_seed(0)
    likelihood = likelihoods.get(head)
    network = ForecastNetwork(
        lags=2,
        known=1,
        categories=1,
        vocabulary_size=3,
        parameters=likelihood.parameters,
        units=3,
        layers=2,
        category_units=2,
        **arguments,
    )
    network.build()
    return Shell(network, likelihood)


def windows(layout=LAYOUT, series=SERIES):
    return Windows(series, vocabulary_of(series), layout)


def replayed(model, layout, paths, draw, seed):
    """The paths [P, B, H] of a draw, from the network's outputs over whole windows that hold them."""
    again = []
    for path in paths:
        values = [one.values.copy() for one in SERIES.series]
        for row, (index, origin) in enumerate(zip(*PLACES, strict=True)):
            values[index][origin : origin + layout.horizon] = path[row]
        series = SeriesSet(
            tuple(
                Series(one.name, changed, categories=one.categories)
                for one, changed in zip(SERIES.series, values, strict=True)
            ),
            categories=("kind",),
        )
        rows = windows(layout, series).rows(PLACES)
        again.append(rows.inputs)
    inputs = {name: np.concatenate([one[name] for one in again]) for name in again[0]}
    outputs = draw.run(model.network, tf.nest.map_structure(tf.constant, inputs))
    found = [
        model.likelihood.sample(outputs[:, layout.context + step], noise.derive(seed, step))
        for step in range(layout.horizon)
    ]
    scaled = np.stack(found, axis=1)
    location, scale = inputs["scale"].T[:, :, np.newaxis]
    expected = scaled if layout.has_counts else location + scale * scaled
    return expected.reshape([len(paths), -1, layout.horizon])


BAYESIAN = {
    "prior": NormalPrior(0.5),
    "recurrent_posterior": MeanFieldNormal((0.5, 1.0)),
    "other_posterior": MeanFieldNormal((0.5, 1.0)),
}


@pytest.mark.parametrize(
    ("head", "arguments", "samples"),
    [
        ("normal", {}, 0),
        ("student_t", {}, 0),
        ("normal", BAYESIAN, 0),
        ("normal", BAYESIAN, 2),
        ("normal", {"dropout": 0.5}, 0),
        ("normal", {"dropout": 0.5}, 4),
        ("negative_binomial", {"has_counts": True}, 0),
    ],
)
def test_paths_are_those_of_the_network_that_reads_them(head, arguments, samples):
    model = a_model(head, **arguments)
    layout = LAYOUT
    if arguments.get("has_counts"):
        layout = LAYOUT._replace(has_counts=True, scaling="mean_absolute")
    rows = windows(layout).rows(PLACES, PLACES.origins)
    paths = PathSampler(model, layout).sample(rows, 4, samples, seed=7)
    assert paths.shape == (4, 3, 3)
    root = noise.make_seed(7)
    draws = noise.derive(root, Stream.EVALUATION_DRAWS)
    of_draw = np.split(paths, 2) if samples == 2 else [paths]
    for number, some in enumerate(of_draw):
        draw = model.posterior.sample(noise.derive(draws, number)) if samples else model.posterior.mean()
        seed = noise.derive(root, Stream.FORECAST_NOISE, 0, number)
        # A path's own past differs from what the sampler fed back by float32's rounding alone.
        np.testing.assert_allclose(
            replayed(model, layout, some, draw, seed), some, rtol=2e-4, err_msg=f"draw {number}"
        )


def test_another_part_and_another_seed_have_other_noise():
    model = a_model()
    sampler, rows = PathSampler(model, LAYOUT), windows().rows(PLACES, PLACES.origins)
    one = sampler.sample(rows, 3, 0, seed=1)
    np.testing.assert_array_equal(one, sampler.sample(rows, 3, 0, seed=1))
    assert not np.allclose(one, sampler.sample(rows, 3, 0, seed=2))
    assert not np.allclose(one, sampler.sample(rows, 3, 0, seed=1, part=1))


def test_paths_do_not_look_at_what_is_to_be_forecast():
    model = a_model()
    changed = SeriesSet(
        tuple(
            Series(one.name, np.r_[one.values[:origin], 1e5 * np.ones(3)], categories=one.categories)
            for one, origin in zip(SERIES.series, PLACES.origins, strict=True)
        ),
        categories=("kind",),
    )
    sampler = PathSampler(model, LAYOUT)
    one, other = (
        sampler.sample(windows(LAYOUT, series).rows(PLACES, PLACES.origins), 3, 0, seed=1)
        for series in (SERIES, changed)
    )
    np.testing.assert_array_equal(one, other)


def test_paths_of_logarithms_stay_near_what_was_seen():
    model = a_model("student_t")
    layout = LAYOUT._replace(is_logarithmic=True)
    rows = windows(layout).rows(PLACES, PLACES.origins)
    paths = PathSampler(model, layout).sample(rows, 400, 0, seed=1)
    highest = max(one.values.max() for one in SERIES.series)
    assert np.all(paths >= 0) and np.all(paths < (highest + 1) * np.exp(3.0) * 1.01)


def test_heads_of_counts_scale_means_and_dispersions():
    model = a_model("negative_binomial", has_counts=True)
    rows = windows(LAYOUT._replace(has_counts=True, scaling="mean_absolute")).rows(PLACES)
    inputs = rows.inputs
    model.network.has_counts = False
    raw = model.network(inputs)
    model.network.has_counts = True
    mean, dispersion = tf.unstack(tf.nn.softplus(raw), axis=-1)
    found = model.likelihood.distribution(model.network(inputs))
    scale = rows.scale[:, 1:]
    np.testing.assert_allclose(found.mean(), mean * scale, rtol=1e-4)
    expected = mean * scale + dispersion / np.sqrt(scale) * (mean * scale) ** 2
    np.testing.assert_allclose(found.variance(), expected, rtol=1e-3)


def test_a_network_comes_back_from_its_config():
    network = a_model(**BAYESIAN).network
    again = ForecastNetwork.from_config(network.get_config())
    again.build()
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in network.weights]
    assert again.get_config() == network.get_config()
