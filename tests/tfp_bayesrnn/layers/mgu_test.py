"""The minimal gated unit: a cell without a kernel of its own, in all that a recurrent layer is used for."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from bayes_oracles import normal_kl
from rnn_oracles import BATCH, FEATURES, MASK, STEPS, UNITS, assert_all_close, mgu_step, sequence
from small_models import VOCABULARY, as_dataset, tokens, windows

from tfp_bayesrnn import (
    BayesianModel,
    InputError,
    MeanFieldNormal,
    NormalPrior,
    PosteriorSharpening,
    VariationalDense,
    VariationalEmbedding,
    VariationalMGU,
    VariationalMGUCell,
    to_deterministic,
)
from tfp_bayesrnn.layers.cell import SequenceWeights
from tfp_bayesrnn.posterior.posterior import Posterior

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
STATE = RNG.normal(size=(BATCH, UNITS)).astype(np.float32)
DROPPED = 2.0 * (RNG.random((BATCH, UNITS)) < 0.5)
TOLERANCE = 1e-5  # Of float32 over five steps.


def built(layer):
    keras.utils.set_random_seed(0)
    layer.build(INPUTS.shape)
    return layer


def weights_of(cell):
    return [w.mu.numpy().astype(np.float64) for w in (cell.kernel, cell.recurrent_kernel, cell.bias) if w]


@pytest.mark.slow(every=3)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_bias": False},
        {"go_backwards": True},
        {"bias_initializer": "random_normal", "zero_output_for_mask": True},
        {"go_backwards": True, "zero_output_for_mask": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("mask", [None, MASK], ids=["", "mask"])
def test_it_is_what_numpy_computes(options, mask):
    layer = built(VariationalMGU(UNITS, return_sequences=True, return_state=True, **options))
    backwards = options.get("go_backwards", False)
    for state in (np.zeros_like(STATE), STATE):
        expected, (last,) = sequence(mgu_step, INPUTS, [state], weights_of(layer.cell), mask, backwards)
        if mask is not None and options.get("zero_output_for_mask"):
            expected = np.where((mask[:, ::-1] if backwards else mask)[:, :, None], expected, 0.0)
        assert_all_close(layer(INPUTS, initial_state=[state], mask=mask), [expected, last], TOLERANCE)
        layer.return_sequences = layer.return_state = False
        assert_all_close(layer(INPUTS, initial_state=[state], mask=mask), expected[:, -1], TOLERANCE)
        layer.return_sequences = layer.return_state = True


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_the_gradient_is_that_of_the_unrolled_loop(mode):
    """And with sizes that are not known, where it is compiled."""
    cell = built(VariationalMGU(UNITS, dtype="float64")).cell
    names = ("kernel", "recurrent_kernel", "bias")
    mask = tf.constant(MASK)

    def unrolled(weights, inputs, state):
        output, outputs = tf.zeros_like(state), []
        for time in reversed(range(STEPS)):
            new, _ = cell.step(weights, cell.project(weights, inputs[:, time]), [state])
            state, output = (tf.where(mask[:, time, None], new, old) for old in (state, output))
            outputs.append(output)
        return tf.stack(outputs, axis=1), [state]

    def scanned(weights, inputs, state):
        return cell.sequence(weights, inputs, [state], mask, go_backwards=True)

    def evaluated(run, inputs, state, *values):
        sources = [inputs, state, *values]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            weights = SequenceWeights(dict(zip(names, values, strict=True)), None, tf.constant(DROPPED))
            outputs, (last,) = run(weights, inputs, state)
            loss = tf.reduce_sum(outputs**2) + tf.reduce_sum(tf.sin(last))
        return [outputs, last, *tape.gradient(loss, sources)]

    arguments = [tf.constant(each, tf.float64) for each in (INPUTS, STATE, *weights_of(cell))]
    run = lambda *arguments: evaluated(scanned, *arguments)  # noqa: E731
    if mode == "xla":
        rows = [tf.TensorSpec([None] * (3 - i) + [n], tf.float64) for i, n in ((1, FEATURES), (2, UNITS))]
        specs = rows + [tf.TensorSpec(each.shape, tf.float64) for each in arguments[2:]]
        run = tf.function(run, input_signature=specs, jit_compile=True)
    assert_all_close(run(*arguments), evaluated(unrolled, *arguments), 1e-12)


def test_its_kl_is_that_of_the_weights_it_declares():
    layer = built(VariationalMGU(UNITS, prior=NormalPrior(0.2), kl_weight=0.5))
    weights = Posterior.of(layer).weights
    shapes = {weight.name: weight.shape for weight in weights}
    assert shapes == {
        "kernel": (FEATURES, 2 * UNITS),
        "recurrent_kernel": (UNITS, 2 * UNITS),
        "bias": (2 * UNITS,),
    }
    layer(INPUTS, training=True)
    expected = 0.5 * sum(normal_kl(weight.mu, weight.rho, 0.2) for weight in weights)
    np.testing.assert_allclose(layer.losses, [expected], rtol=1e-5)


def test_recurrent_dropout_goes_where_the_hidden_state_enters_a_product():
    layer = built(VariationalMGU(UNITS, recurrent_dropout=0.5, return_sequences=True))
    weights = SequenceWeights(
        {weight.name: weight.mean() for weight in Posterior.of(layer).weights},
        recurrent_mask=tf.constant(DROPPED, tf.float32),
    )
    outputs, _ = layer.cell.sequence(weights, tf.constant(INPUTS), [STATE], None, False)
    expected, _ = sequence(mgu_step, INPUTS, [STATE], weights_of(layer.cell), dropout=DROPPED)
    assert_all_close(outputs, expected, TOLERANCE)


def test_half_precision():
    layer, reference = (
        built(VariationalMGU(UNITS, dtype=dtype, return_sequences=True))
        for dtype in ("mixed_bfloat16", "float32")
    )
    outputs = layer(INPUTS, mask=MASK)
    assert outputs.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), reference(INPUTS, mask=MASK), atol=0.03)


def test_bidirectional_is_both_directions_and_is_saved(tmp_path):
    layer = keras.layers.Bidirectional(VariationalMGU(UNITS, return_sequences=True))
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), layer, VariationalMGU(2, dropout=0.1)])
    outputs = layer(INPUTS)
    for index, (cell, order) in enumerate(((layer.forward_layer.cell, 1), (layer.backward_layer.cell, -1))):
        zeros = [np.zeros((BATCH, UNITS))]
        expected, _ = sequence(mgu_step, INPUTS[:, ::order], zeros, weights_of(cell))
        assert_all_close(outputs[..., index * UNITS :][..., :UNITS], expected[:, ::order], TOLERANCE)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(INPUTS), model(INPUTS))
    clone = keras.models.clone_model(model)
    assert clone.layers[1].get_config() == model.layers[1].get_config()


def test_there_is_no_layer_of_keras_that_it_could_become():
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), VariationalMGU(2)])
    with pytest.raises(InputError, match="VariationalMGUCell"):
        to_deterministic(model)


def model_of(recurrent, **arguments):
    keras.utils.set_random_seed(1)
    network = keras.Sequential([VariationalEmbedding(VOCABULARY, 3), recurrent, VariationalDense(VOCABULARY)])
    model = BayesianModel(network, training_rows=6, seed=3, **arguments)
    model.build((None, None))
    model.compile(keras.optimizers.SGD(0.1), clip_norm=5.0, run_eagerly=True)
    return model


@pytest.mark.slow
def test_a_model_carries_its_state_sharpens_and_is_exported(tmp_path):
    ids = tokens()
    model = model_of(VariationalMGU(3, return_sequences=True))
    whole = model.network(ids[:, :-1])
    nats = -tf.gather(tf.nn.log_softmax(whole), ids[:, 1:], batch_dims=2)
    scores = model.evaluate(as_dataset(windows(ids)), verbose=0, return_dict=True)
    np.testing.assert_allclose(scores["nll"], np.mean(nats), rtol=1e-5)

    model = model_of(VariationalMGU(3, return_sequences=True), sharpening=PosteriorSharpening(0.1))
    before = [variable.numpy() for variable in model.trainable_variables]
    history = model.fit(as_dataset(windows(ids)), verbose=0).history
    assert np.isfinite(history["loss"]).all()
    for old, new in zip(before, model.trainable_variables, strict=True):
        assert np.any(old != new.numpy()), new.path

    model.export(tmp_path / "export")
    served = tf.saved_model.load(str(tmp_path / "export")).signatures["serving_default"]
    (logits,) = served(tf.constant(ids[:, :-1], tf.float32)).values()
    np.testing.assert_allclose(logits, model.network(ids[:, :-1]), atol=1e-5)


def test_a_stateful_layer_goes_on():
    layer = built(VariationalMGU(UNITS, stateful=True, return_sequences=True))
    whole = keras.layers.RNN(layer.cell, return_sequences=True)(np.concatenate([INPUTS, INPUTS], axis=1))
    assert_all_close(layer(INPUTS), whole[:, :STEPS], TOLERANCE)
    assert_all_close(layer(INPUTS), whole[:, STEPS:], TOLERANCE)
    stack = keras.layers.StackedRNNCells([VariationalMGUCell(2, posterior=MeanFieldNormal()) for _ in "ab"])
    assert keras.layers.RNN(stack)(INPUTS).shape == (BATCH, 2)
