"""What a model does under a variational family that it does not know: all of it, or a refusal by name."""

import math
import pathlib
import re

import keras
import numpy as np
import pytest
import small_models
import tensorflow as tf
from own_families import FullCovariance, Laplace
from scipy import stats

from tfp_bayesrnn import (
    KTiedNormal,
    MeanFieldNormal,
    NormalPrior,
    Posterior,
    PosteriorSharpening,
    VariationalDense,
    VariationalEmbedding,
    VariationalLSTM,
    VariationalWeight,
    noise,
    pruning,
    to_bayesian,
    to_deterministic,
)
from tfp_bayesrnn.export.saved_model import ExportedPosterior
from tfp_bayesrnn.posterior import ambient

FAMILIES = {"k-tied": KTiedNormal(2), "laplace": Laplace(), "full covariance": FullCovariance()}
INPUTS, TARGETS = small_models.regression_data()
SEED = noise.make_seed(7)


def make_model(family, **arguments):
    layers = [
        VariationalDense(2, activation="tanh", prior=NormalPrior(1.0), posterior=family),
        VariationalDense(1, prior=small_models.PRIOR, posterior=family),
    ]
    return small_models.regression(layers, **arguments)


def masks_by_magnitude(model, fraction=0.4):
    return pruning.masks(model.posterior, fraction, by="magnitude")


@pytest.mark.slow(but=["k-tied"])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_it_is_trained_saved_and_exported(family, tmp_path):
    """With sharpening; the draws of a restored model and of an export are those of the model."""
    model = make_model(family, sharpening=PosteriorSharpening())
    before = small_models.values(model.trainable_variables)
    loss = model.fit(INPUTS, TARGETS, batch_size=6, epochs=2, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    assert all(np.any(v.numpy() != old) for v, old in zip(model.trainable_variables, before, strict=True))
    draw = model.posterior.sample(SEED)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert type(restored.network.layers[0].posterior) is type(family)
    small_models.assert_identical(restored.posterior.sample(SEED).values(), draw.values())
    exported = ExportedPosterior(model.network)
    for found, expected in zip(exported.sample(SEED).values(), draw.values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    model.export(tmp_path / "export")
    serve = tf.saved_model.load(str(tmp_path / "export")).signatures["serve_mc"]
    found = serve(inputs=tf.constant(INPUTS), num_samples=tf.constant(2), seed=tf.constant(1))
    root = noise.derive(noise.make_seed(1), -1)
    under = [predictions(model, model.posterior.sample(noise.derive(root, place))) for place in range(2)]
    np.testing.assert_allclose(found["outputs"], np.mean(under, axis=0), rtol=1e-4, atol=1e-5)
    variance = np.var(under, axis=0) + model.likelihood.scale**2
    np.testing.assert_allclose(found["outputs_variance"], variance, rtol=1e-3, atol=1e-6)


def predictions(model, draw):
    with ambient.under(draw):
        return model.network(INPUTS).numpy()


@pytest.mark.slow(but=["KTiedNormal"])
@pytest.mark.parametrize(
    "family", [MeanFieldNormal(), *list(FAMILIES.values())[:2]], ids=lambda family: type(family).__name__
)
def test_what_is_pruned_is_0_in_draws_and_exports_and_costs_nothing(family):
    model = make_model(family)
    model.fit(INPUTS, TARGETS, batch_size=6, verbose=0)
    masks = pruning.masks(model.posterior, 0.4)
    by_export = ExportedPosterior(model.network, prune=0.4).sample(SEED)
    pruning.prune(model.posterior, masks)
    draw, exported = model.posterior.sample(SEED), ExportedPosterior(model.network).sample(SEED)
    for weight, keep in masks.items():
        assert np.all((draw[weight].numpy() != 0.0) == (keep & (weight.is_variational or weight.mean() != 0)))
        for found in (exported, by_export):
            np.testing.assert_allclose(found[weight], draw[weight], rtol=1e-5, atol=1e-7)
    weight = model.network.layers[1].kernel
    mu, sigma, keep = weight.mean().numpy(), weight.scale().numpy(), masks[weight]
    density = stats.laplace(mu, sigma / np.sqrt(2)) if isinstance(family, Laplace) else stats.norm(mu, sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_q = np.sum(density.logpdf(draw[weight].numpy())[keep])
    expected = log_q - weight.prior_distribution().log_prob(draw[weight])
    np.testing.assert_allclose(weight.kl(draw[weight], draw.epsilons[weight]), expected, rtol=1e-4, atol=1e-4)


class Unscaled(FullCovariance):
    """It does not say how far its elements spread."""

    def scale(self, variables):
        return None


def test_a_family_without_what_pruning_needs_is_refused_by_name():
    model = make_model(Unscaled())
    weight = model.network.layers[0].kernel
    assert not weight.has_scale
    for action in (
        lambda: pruning.masks(model.posterior, 0.4),
        lambda: pruning.signal_to_noise(model.posterior),
        lambda: ExportedPosterior(model.network, prune=0.4),
        weight.scale,
    ):
        with pytest.raises(ValueError, match=r"Unscaled has no standard deviation.*Received: weight="):
            action()


@pytest.mark.slow
def test_elements_that_are_not_independent_can_be_masked_but_not_pruned():
    """Their draws are known, their density is not."""
    model = make_model(FAMILIES["full covariance"])
    weight, masks = model.network.layers[0].kernel, masks_by_magnitude(model)
    covariance = np.square(np.tril(weight.variables[1].numpy())).sum(axis=1)
    np.testing.assert_allclose(np.square(weight.scale()).ravel(), covariance, rtol=1e-5)
    with pytest.raises(ValueError, match=r"if the FullCovariance posterior of its kept elements is known"):
        pruning.prune(model.posterior, masks)
    assert not weight.is_pruned
    draw = model.posterior.sample(SEED)
    masks = pruning.masks(model.posterior, 0.4)
    masked, exported = pruning.masked_draw(draw, masks), ExportedPosterior(model.network, prune=0.4)
    for found, expected in zip(exported.sample(SEED).values(), masked.values(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_family_goes_through_conversion_or_is_refused():
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = to_bayesian(plain, 6, posterior=KTiedNormal(2), initial_scale=0.05)
    kernel = model.network.layers[0].kernel
    np.testing.assert_allclose(kernel.scale(), np.full((3, 2), 0.05), rtol=1e-4)
    np.testing.assert_array_equal(to_deterministic(model).predict(INPUTS, verbose=0), plain(INPUTS))
    for family, message in (
        (KTiedNormal(2), "KTiedNormal can be set to are of rank one"),
        (FullCovariance(), "FullCovariance cannot be set to a given mean and scale"),
    ):
        with pytest.raises(ValueError, match=message):
            to_bayesian(plain, 6, posterior=family)
    # Out of a family that cannot be set, too.
    network = make_model(FullCovariance()).network
    np.testing.assert_allclose(to_deterministic(network)(INPUTS), network(INPUTS), rtol=1e-5)


def test_an_export_of_tied_scales_is_smaller():
    keras.utils.set_random_seed(0)
    sizes = {}
    for family in (MeanFieldNormal(), KTiedNormal(2)):
        layer = VariationalDense(40, use_bias=False, posterior=family)
        layer.build((None, 30))
        for prune in (0.0, 0.5):
            sizes[type(family), prune] = ExportedPosterior(keras.Sequential([layer]), prune=prune).nbytes
    elements, factors = 30 * 40, 2 * (30 + 40)
    assert sizes[MeanFieldNormal, 0.0] == 4 * 2 * elements
    assert sizes[KTiedNormal, 0.0] == 4 * (elements + factors)
    # Half of the means, a bit for each that says which, and another mask for the draws.
    assert sizes[KTiedNormal, 0.5] == 4 * (elements // 2 + factors) + 2 * elements // 8


def test_initial_values_follow_from_a_seed_and_masks_keep_the_tied_factors():
    weight = VariationalWeight((4, 3), keras.initializers.RandomUniform(-1, 1), NormalPrior(), KTiedNormal())
    weight.build()
    posterior = Posterior([weight])
    posterior.initialize(3)
    first = small_models.values(weight.variables)
    posterior.initialize(4)
    assert all(np.any(v.numpy() != old) for v, old in zip(weight.variables, first, strict=True))
    posterior.initialize(3)
    small_models.assert_identical(small_models.values(weight.variables), first)
    pruning.prune(posterior, pruning.masks(posterior, 0.5))
    assert [v.name for v in weight.variables] == ["mu", "rho_u", "rho_v", "keep"]
    pruning.unprune(posterior)
    small_models.assert_identical(small_models.values(weight.variables), first)


def test_the_family_of_the_documentation_is_trained():
    page = (pathlib.Path(__file__).parents[3] / "docs" / "families.md").read_text(encoding="utf-8")
    names = {"__name__": "page"}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], names)
    kernel = names["model"].network.layers[0].kernel
    np.testing.assert_allclose(kernel.scale(), math.sqrt(2.0) * np.exp(kernel.variables[1]), rtol=1e-5)


def test_tables_and_recurrent_kernels_are_tied():
    """An embedding looks rows up in the one draw of its table."""
    family = KTiedNormal(3)
    table, lstm = VariationalEmbedding(7, 4, posterior=family), VariationalLSTM(5, posterior=family)
    table.build()
    lstm.build((None, None, 4))
    draw = Posterior.of(table, lstm).sample(SEED)
    with ambient.under(draw):
        np.testing.assert_array_equal(table(np.array([[2, 6]])), draw[table.embeddings].numpy()[[[2, 6]]])
    shapes = {v.name: tuple(v.shape) for v in lstm.cell.kernel.variables}
    assert shapes == {"mu": (4, 20), "rho_u": (4, 3), "rho_v": (20, 3)}
    assert [v.name for v in lstm.cell.bias.variables] == ["mu", "rho"]
