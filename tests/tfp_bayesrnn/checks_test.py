"""What a step refuses, with and without XLA: classes and ids that are not there, what is no class at all."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, NormalLikelihood, VariationalDense, VariationalEmbedding, checks
from tfp_bayesrnn.model.evaluation import StreamEvaluator

ROWS, STEPS, IDS, CLASSES = 4, 3, 5, 3
X = np.tile(np.arange(STEPS, dtype=np.int32), (ROWS, 1))
Y = np.ones((ROWS, STEPS), np.int32)
COMPILED = [
    pytest.param({"jit_compile": False}, id="graph"),
    pytest.param({"jit_compile": True}, id="xla"),
    pytest.param({"run_eagerly": True}, id="eager"),
]


def tagger(likelihood="categorical", classes=CLASSES, **compiled):
    """A model of ids [B, T], built, with a class for each."""
    keras.utils.set_random_seed(1)
    network = keras.Sequential([VariationalEmbedding(IDS, 2, name="words"), VariationalDense(classes)])
    model = BayesianModel(network, likelihood=likelihood, training_rows=ROWS)
    model.compile("sgd", **compiled)
    model.build(X.shape)
    return model


def with_one(array, value, dtype=None):
    changed = array.astype(dtype or array.dtype)
    changed[1, 2] = value
    return changed


def values(model):
    return [variable.numpy() for variable in model.variables]


CASES = {
    "a class too high": (X, with_one(Y, CLASSES), "classes, whole numbers from 0 to 2.*from 1 to 3"),
    "a class below 0": (X, with_one(Y, -1), "classes, whole numbers from 0 to 2.*from -1 to 1"),
    "a class that needs more bits": (X, with_one(Y, 2**32 + 1, np.int64), "from 1 to 4.29497e.09"),
    "no whole number": (X, with_one(Y, 0.5, np.float32), "classes, whole numbers from 0 to 2.*from 0.5 to 1"),
    "not a number": (X, with_one(Y, np.nan, np.float32), "classes, whole numbers from 0 to 2"),
    "an id too high": (with_one(X, IDS), Y, "Inputs of 'words' are ids from 0 to 4.*values from 0 to 5"),
    "an id below 0": (with_one(X, -2), Y, "Inputs of 'words' are ids from 0 to 4.*values from -2 to 2"),
}


@pytest.mark.slow(every=4)
@pytest.mark.parametrize("compiled", COMPILED)
@pytest.mark.parametrize("case", CASES)
def test_what_is_not_there_is_refused_and_the_step_not_taken(case, compiled):
    x, y, message = CASES[case]
    model = tagger(**compiled)
    before = values(model)
    for train in (lambda: model.fit(x, y, batch_size=ROWS, verbose=0), lambda: model.train_on_batch(x, y)):
        with pytest.raises(ValueError, match=message):
            train()
    for one, other in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow(but=["eager"])
@pytest.mark.parametrize("compiled", COMPILED)
def test_evaluation_refuses_the_same_classes(compiled):
    model = tagger(**compiled)
    for evaluate in (
        lambda y: model.evaluate(X, y, verbose=0),
        lambda y: model.test_on_batch(X, y),
        lambda y: StreamEvaluator(model).mean([(X, y, np.ones(Y.shape, np.float32))]),
    ):
        evaluate(Y)
        with pytest.raises(ValueError, match=r"whole numbers from 0 to 2\. Received: values from 1 to 3"):
            evaluate(with_one(Y, CLASSES))


@pytest.mark.slow(but=["eager"])
@pytest.mark.parametrize("compiled", COMPILED)
def test_where_the_weight_is_zero_anything_will_do(compiled):
    weights = with_one(np.ones(Y.shape, np.float32), 0.0)
    expected = tagger(**compiled).train_on_batch(X, Y, weights)
    for value, dtype in ((-1, np.int32), (CLASSES, np.int32), (np.nan, np.float32), (0.5, np.float32)):
        found = tagger(**compiled).train_on_batch(X, with_one(Y, value, dtype), weights)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "float16", "float32", "float64", "bool"])
def test_classes_may_be_of_any_type(dtype):
    expected = tagger(classes=300).train_on_batch(X, Y)
    np.testing.assert_array_equal(tagger(classes=300).train_on_batch(X, Y.astype(dtype)), expected)


@pytest.mark.slow(but=["eager"])
@pytest.mark.parametrize("compiled", COMPILED)
def test_zeros_and_ones(compiled):
    model = tagger("bernoulli", 1, **compiled)
    y = Y[..., np.newaxis].astype(np.float32)
    model.train_on_batch(X, y)
    model.train_on_batch(X, 0.3 * y)
    with pytest.raises(ValueError, match=r"are 0 or 1, or probabilities in between\. .* from 2 to 2"):
        model.train_on_batch(X, 2.0 * y)


def test_one_class_is_none():
    """The default likelihood with `Dense(1)`, for which every loss would be 0."""
    model = tagger(classes=1)
    with pytest.raises(ValueError, match=r"at least 2 classes.*NormalLikelihood.*'bernoulli'"):
        model.train_on_batch(X, 0.3 * Y)
    tagger(NormalLikelihood(1.0), classes=1).train_on_batch(X, 0.3 * Y)


def test_on_replicas(mirrored):
    with mirrored(2).scope():
        model = tagger(jit_compile=False)
    before = values(model)
    with pytest.raises(ValueError, match="whole numbers from 0 to 2"):
        model.fit(X, with_one(Y, CLASSES), batch_size=ROWS, verbose=0)
    for one, other in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_found_twice_holds_twice():
    with checks.collected() as found:
        for wrong in (9.0, 1.0):
            checks.within(tf.constant([wrong]), 0, 2, "Numbers are small")
    assert not bool(found["Numbers are small"].holds)
    with pytest.raises(ValueError, match=r"^Numbers are small\. Received: values from 1 to 9$"):
        checks.enforce(found, None)


def test_other_errors_stay_what_they_are():
    with pytest.raises(tf.errors.InvalidArgumentError, match="mine"), checks.explained():
        tf.debugging.assert_less(2, 1, "mine")


def test_names_in_an_error_are_as_they_were_given():
    accepted = "Ids of 'Wörter' \\ \"words\" are small"
    check = tf.function(lambda values: checks.within(values, 0, 2, accepted))
    with pytest.raises(ValueError) as caught, checks.explained():
        check(tf.constant([1.0, 3.5]))
    assert str(caught.value) == f"{accepted}. Received: values from 1 to 3.5"


def test_nothing_is_something():
    """A replica may have no rows."""
    empty = tf.zeros([0], tf.int64)
    assert checks.within(empty, 0, 2, "Numbers are small", whole=True) is empty
