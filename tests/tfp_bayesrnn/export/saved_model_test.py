"""The rooms of `tfp_bayesrnn.export`, and `BayesianModel.export`."""

import os

import keras
import numpy as np
import pytest
import scipy.special
import small_models
import tensorflow as tf
from export_models import language_model
from odd_names import ODD_NAMES

from tfp_bayesrnn import BayesianModel, InputError, MeanFieldNormal, PointMass, VariationalDense, noise
from tfp_bayesrnn.export.saved_model import ExportedPosterior, write_saved_model
from tfp_bayesrnn.export.storage import StoredArray
from tfp_bayesrnn.posterior import ambient, pruning
from tfp_bayesrnn.prediction.draws import FreshDraws, HeldDraws, mean_draw


def sparse(shape, kept=0.2, seed=0):
    generator = np.random.default_rng(seed)
    values = generator.normal(size=shape).astype(np.float32)
    return np.where(generator.uniform(size=shape) < kept, values, np.float32(0))


@pytest.mark.parametrize("form", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(5, 13), (8,), (1, 1, 77)])
@pytest.mark.parametrize("kept", [1.0, 0.2, 0.0])
def test_an_array_is_read_as_it_was(shape, kept, form):
    array = sparse(shape, kept)
    stored = StoredArray(array, form)
    value = stored.read()
    assert value.dtype == tf.float32 and value.shape == shape
    np.testing.assert_array_equal(value, array.astype(form).astype(np.float32))
    # The bits of all places and the values of those that count, where that is less than all values.
    size = np.dtype(form).itemsize
    bits = -(-array.size // 8) + size * np.count_nonzero(array)
    assert stored.nbytes == min(bits, size * array.size)
    assert stored.is_sparse == (bits < size * array.size)


def test_an_array_that_half_precision_cannot_hold_stays():
    array = np.array([1.0, 7e4], np.float32)
    stored = StoredArray(array, "float16")
    assert stored.stored_dtype == "float32" and stored.nbytes == 8
    np.testing.assert_array_equal(stored.read(), array)


def test_other_types_stay():
    array = np.zeros([40], np.int64)
    stored = StoredArray(array, "float16")
    assert stored.read().dtype == tf.int64 and stored.nbytes == 320 and not stored.is_sparse


def test_a_form_that_is_not_known():
    with pytest.raises(ValueError, match="format='int8'"):
        StoredArray(np.zeros([2], np.float32), "int8")


SEED = tf.constant([3, 4])


def assert_same(one, other, atol=0.0):
    assert list(one) == list(other)
    for weight in one:
        np.testing.assert_allclose(one[weight], other[weight], rtol=0, atol=atol)


def test_draws_are_those_of_the_posterior():
    model = language_model()
    exported = ExportedPosterior(model.network)
    assert exported.has_scales
    assert_same(exported.mean(), model.posterior.mean())
    # One is compiled, the other is not: products and sums may be rounded once or twice.
    assert_same(exported.sample(SEED), model.posterior.sample(SEED), atol=1e-6)
    # What is exported is what the weights were.
    before = exported.mean()
    for variable in model.trainable_variables:
        variable.assign(variable + 1.0)
    assert_same(exported.mean(), before)


def test_a_pruned_export_is_the_pruned_posterior():
    model = language_model()
    masks = pruning.masks(model.posterior, 0.6)
    exported = ExportedPosterior(model.network, prune=0.6)
    pruning.prune(model.posterior, masks)
    assert_same(exported.mean(), model.posterior.mean())
    assert_same(exported.sample(SEED), model.posterior.sample(SEED), atol=1e-6)
    assert exported.pruned == pytest.approx(0.6, abs=1e-3)
    # What has been pruned before needs no saying.
    again = ExportedPosterior(model.network)
    assert again.pruned == exported.pruned and again.nbytes == exported.nbytes
    assert again.nbytes < 0.5 * sum(8 * np.prod(weight.shape) for weight in model.posterior.weights)


def test_without_distributions_the_smallest_weights_are_pruned():
    model = language_model(posterior=None)
    exported = ExportedPosterior(model.network, prune=0.5)
    masks = pruning.masks(model.posterior, 0.5, by="magnitude")
    assert_same(exported.mean(), pruning.masked_draw(model.posterior.mean(), masks))
    assert not exported.has_scales
    with pytest.raises(ValueError, match="weights='mean'"):
        exported.sample(SEED)


def test_half_precision_rounds_means_and_scales():
    model = language_model()
    exported = ExportedPosterior(model.network, format="float16")
    for weight, value in exported.mean().items():
        np.testing.assert_array_equal(value, weight.mean().numpy().astype(np.float16).astype(np.float32))
    assert exported.nbytes < 0.51 * ExportedPosterior(model.network).nbytes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "mode"}, "weights='mode'"),
        ({"format": "half"}, "format='half'"),
        ({"prune": 1.0}, "prune=1.0"),
    ],
)
def test_arguments_of_an_exported_posterior(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExportedPosterior(language_model().network, **arguments)


def test_a_posterior_that_there_is_not():
    with pytest.raises(InputError, match="no weight of the model has a distribution; accepted: mean"):
        ExportedPosterior(language_model(posterior=None).network, weights="posterior")


CLASSES, ROWS, STEPS = 5, 2, 3


class LinearPosterior:
    """In the place of an `ExportedPosterior`: draws of one weight [4, CLASSES]."""

    def __init__(self):
        wide = MeanFieldNormal((0.5, 1.0))  # So that draws differ.
        layer = VariationalDense(CLASSES, use_bias=False, prior=small_models.PRIOR, posterior=wide)
        network = keras.Sequential([layer])
        network.build((None, 4))
        self.exported = ExportedPosterior(network)
        (self.weight,) = self.exported.posterior.weights

    def run(self, draw, state):
        """Logits are the state times the weight, step by step; the state is doubled by every step."""
        steps = tf.stack([state * 2.0**step for step in range(STEPS)], axis=1)
        return tf.tensordot(steps, draw[self.weight], axes=1), state * 2.0**STEPS


@pytest.mark.parametrize("make", [FreshDraws, HeldDraws])
@pytest.mark.parametrize("samples", [1, 4])
def test_scores_of_draws_against_numpy(make, samples):
    linear = LinearPosterior()
    start = np.random.default_rng(0).normal(size=(ROWS, 4)).astype(np.float32)
    targets = np.array([[0, 1, 4], [2, 2, 3]], np.int32)

    def run(samples):
        draws = make(linear.exported, samples, SEED)
        states = draws.start(lambda draw: {"state": start + draw[linear.weight][0, 0]})

        def one(draw, state):
            logits, state = linear.run(draw, state["state"])
            return logits, {"state": state}

        scores, after = draws.score(one, states, tf.constant(targets))
        log_probs, _ = draws.predict(one, states)
        return scores, after["state"], log_probs

    scores, after, log_probs = tf.function(run, autograph=False)(tf.constant(samples))
    weights = [
        linear.exported.sample(noise.derive(SEED, place))[linear.weight].numpy().astype(np.float64)
        for place in range(samples)
    ]
    states = np.stack([start + weight[0, 0] for weight in weights])  # [S, N, 4]
    np.testing.assert_allclose(after, 8 * states.swapaxes(0, 1), rtol=1e-5)
    logits = np.stack([states * 2.0**step for step in range(STEPS)], axis=2)
    logits = np.einsum("sntd,sdv->sntv", logits, np.stack(weights))
    each = scipy.special.softmax(logits, axis=-1)
    average = each.mean(axis=0)
    total, aleatoric = (scipy.special.entr(p).sum(-1) for p in (average, each))
    chosen = np.take_along_axis(average, targets[:, :, None], axis=-1)[:, :, 0]
    # Float32 against float64, with logits up to some tens.
    np.testing.assert_allclose(log_probs, np.log(average), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores.log_probs, np.log(chosen), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores.entropy, total, atol=1e-4)
    np.testing.assert_allclose(scores.mutual_information, total - aleatoric.mean(axis=0), atol=1e-4)
    assert samples > 1 or not np.any(scores.mutual_information)
    assert samples == 1 or np.max(scores.mutual_information) > 0.01


def test_the_mean_is_one_draw():
    linear = LinearPosterior()
    draws = mean_draw(linear.exported)
    states = draws.start(lambda draw: tf.ones([ROWS, 4]))
    targets = tf.ones([ROWS, STEPS], tf.int32)
    scores, after = draws.score(linear.run, states, targets)
    logits, state = linear.run(linear.exported.mean(), tf.ones([ROWS, 4]))
    expected = scipy.special.log_softmax(logits, axis=-1)
    np.testing.assert_allclose(scores.log_probs, expected[:, :, 1], rtol=1e-5)
    np.testing.assert_allclose(
        scores.entropy, scipy.special.entr(np.exp(expected)).sum(axis=-1), rtol=1e-5, atol=1e-6
    )
    assert not np.any(scores.mutual_information)
    np.testing.assert_array_equal(after[:, 0], state)


def doubling(factor):
    module = tf.Module()
    module.factor = tf.Variable(factor)
    spec = [tf.TensorSpec([], tf.float32, "x")]
    function = tf.function(lambda x: {"y": x * module.factor}, input_signature=spec, autograph=False)
    return module, {"double": function}


def answer(path):
    return float(tf.saved_model.load(str(path)).signatures["double"](x=tf.constant(3.0))["y"])


def test_an_export_is_replaced_when_the_new_one_is_complete(tmp_path):
    path = tmp_path / "export"
    write_saved_model(path, *doubling(2.0))
    assert answer(path) == 6.0

    def fail(directory):
        assert (directory / "saved_model.pb").exists()
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write the export .*export: No space left on device"):
        write_saved_model(path, *doubling(5.0), fail)
    assert answer(path) == 6.0
    write_saved_model(path, *doubling(5.0))
    assert answer(path) == 15.0
    assert [entry.name for entry in tmp_path.iterdir()] == ["export"]


def test_what_is_no_export_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="it is no SavedModel"):
        write_saved_model(tmp_path, *doubling(2.0))
    with pytest.raises(InputError, match="it is no SavedModel"):
        write_saved_model(tmp_path / "notes.txt", *doubling(2.0))
    with pytest.raises(InputError, match="cannot write the export"):
        write_saved_model(tmp_path / "notes.txt" / "export", *doubling(2.0))
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["lr=[0.1]", "a\\b"])
def test_where_tensorflow_would_not_find_it_nothing_is_exported(tmp_path, name):
    with pytest.raises(InputError, match="would not find it"):
        write_saved_model(tmp_path / name / "export", *doubling(2.0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if not {"[", "\\"} & {*name}])
def test_other_odd_names_are_no_matter(tmp_path, name):
    write_saved_model(tmp_path / name / "export", *doubling(2.0))
    assert answer(tmp_path / name / "export") == 6.0


def test_a_link_to_an_export_stays_one(tmp_path):
    for factor in (2.0, 5.0):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to("export", target_is_directory=True)
        write_saved_model(tmp_path / "link", *doubling(factor))
        assert (tmp_path / "link").is_symlink()
        assert answer(tmp_path / "export") == 3.0 * factor


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_an_exports_files_have_the_modes_that_the_umask_leaves(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_saved_model(tmp_path / "export", *doubling(2.0))
    finally:
        os.umask(before)
    for path in (tmp_path / "export", *(tmp_path / "export").rglob("*")):
        assert path.stat().st_mode & mask == 0, path


def served(model, path, *inputs, samples=6, seed=2, **arguments):
    """What `serve` and `serve_mc` of the export give, and the outputs under the same draws."""
    model.export(path, **arguments)
    signatures = tf.saved_model.load(str(path)).signatures
    root = noise.derive(noise.make_seed(seed), -1)
    outputs = []
    for sample in range(samples):
        with ambient.under(model.posterior.sample(noise.derive(root, sample))):
            outputs.append(model.network(*inputs, training=False).numpy().astype(np.float64))
    named = {"inputs": inputs[0]} if not isinstance(inputs[0], dict) else inputs[0]
    mean = signatures["serve"](**named)
    sampled = signatures["serve_mc"](**named, num_samples=tf.constant(samples), seed=tf.constant(seed))
    np.testing.assert_array_equal(signatures["serving_default"](**named)["outputs"], mean["outputs"])
    np.testing.assert_allclose(mean["outputs"], model(*inputs), rtol=1e-5, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="num_samples must be at least 1"):
        signatures["serve_mc"](**named, num_samples=tf.constant(0), seed=tf.constant(seed))
    return sampled, np.stack(outputs)


def test_export_of_a_regression(tmp_path):
    x, _ = small_models.regression_data()
    sampled, outputs = served(small_models.regression(), tmp_path / "m", tf.constant(x))
    np.testing.assert_allclose(sampled["outputs"], outputs.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sampled["outputs_epistemic_variance"], outputs.var(axis=0), rtol=1e-4)
    # The noise of the targets has the scale 0.5.
    np.testing.assert_allclose(sampled["outputs_variance"], outputs.var(axis=0) + 0.25, rtol=1e-4)


def test_export_of_a_classifier(tmp_path):
    model = small_models.language_model()
    ids = tf.constant(small_models.tokens(length=5))
    spec = tf.TensorSpec([None, None], tf.int32)
    sampled, logits = served(model, tmp_path / "m", ids, input_signature=spec)
    each = scipy.special.softmax(logits, axis=-1)
    assert_probabilities(sampled, each)


def assert_probabilities(sampled, each):
    average = each.mean(axis=0)
    total, aleatoric = (scipy.special.entr(p).sum(-1) for p in (average, each))
    np.testing.assert_allclose(sampled["probabilities"], average, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sampled["entropy"], total, rtol=1e-4)
    np.testing.assert_allclose(sampled["mutual_information"], total - aleatoric.mean(axis=0), atol=1e-5)
    assert np.max(sampled["mutual_information"]) > 1e-3


def test_export_of_a_bernoulli_likelihood_of_named_inputs(tmp_path):
    one, two = keras.Input((3,), name="one"), keras.Input((2,), name="two")
    hidden = keras.layers.BatchNormalization()(keras.layers.Concatenate()([one, two]))
    wide = MeanFieldNormal((0.5, 1.0))  # So that draws differ.
    outputs = VariationalDense(1, prior=small_models.PRIOR, posterior=wide)(hidden)
    model = BayesianModel(keras.Model({"one": one, "two": two}, outputs), 6, "bernoulli")
    model.build({"one": (None, 3), "two": (None, 2)})
    inputs = {"one": tf.ones([4, 3]), "two": tf.zeros([4, 2])}
    sampled, logits = served(model, tmp_path / "m", inputs)
    each = scipy.special.expit(logits)
    assert_probabilities(sampled, np.stack([1.0 - each, each], axis=-1))


def test_export_of_the_mean_alone(tmp_path):
    model = small_models.regression()
    exported = model.export(tmp_path / "m", weights="mean", weight_format="float16", prune=0.5)
    signatures = tf.saved_model.load(str(tmp_path / "m")).signatures
    assert set(signatures) == {"serve", "serving_default"}
    assert exported.pruned == 9 / 11  # Half of the weights, rounded to 6, and 3 biases that are 0.
    x, _ = small_models.regression_data()
    pruning.prune(model.posterior, pruning.masks(model.posterior, 0.5))
    # Half precision has 11 bits.
    outputs = signatures["serve"](inputs=tf.constant(x))["outputs"]
    np.testing.assert_allclose(outputs, model(tf.constant(x)), rtol=5e-3, atol=5e-3)


def test_a_network_that_does_not_say_what_its_inputs_are(tmp_path):
    with pytest.raises(ValueError, match="input_signature=None"):
        language_model().export(tmp_path / "m")
    with pytest.raises(ValueError, match="must be built"):
        BayesianModel(keras.Sequential([VariationalDense(1)]), 1).export(tmp_path / "m")


def test_a_model_of_point_masses_has_no_draws(tmp_path):
    model = small_models.regression([VariationalDense(1, posterior=PointMass())], training_rows=None)
    model.export(tmp_path / "m")
    assert "serve_mc" not in tf.saved_model.load(str(tmp_path / "m")).signatures
    with pytest.raises(InputError, match="no weight of the model has a distribution"):
        model.export(tmp_path / "m", weights="posterior")
