import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn.errors import InputError
from zoo.data.windows import evaluation_windows, train_windows


def elements(windows):
    return [windows.element(index) for index in range(len(windows))]


def assert_same(element, expected):
    for got, wanted in zip(tf.nest.flatten(element), tf.nest.flatten(expected), strict=True):
        assert np.asarray(got).dtype == np.asarray(wanted).dtype
        np.testing.assert_array_equal(got, wanted)


def test_training_layout_by_hand():
    windows = train_windows(np.arange(15), batch=2, unroll=3)  # rows 0..6 and 7..13; 14 is left over
    assert (len(windows), windows.windows, windows.batch, windows.unroll) == (2, 2, 2, 3)
    assert windows.predictions == 12
    (first, targets, weights), (second, later, _) = elements(windows)
    np.testing.assert_array_equal(first["inputs"], [[0, 1, 2], [7, 8, 9]])
    np.testing.assert_array_equal(targets, [[1, 2, 3], [8, 9, 10]])
    np.testing.assert_array_equal(weights, np.ones([2, 3]))
    np.testing.assert_array_equal(first["is_first"], [True, True])
    np.testing.assert_array_equal(second["inputs"], [[3, 4, 5], [10, 11, 12]])
    np.testing.assert_array_equal(later, [[4, 5, 6], [11, 12, 13]])
    np.testing.assert_array_equal(second["is_first"], [False, False])


def test_evaluation_layout_by_hand():
    windows = evaluation_windows(np.arange(10, 18), rows=2, unroll=3)  # 7 predictions: 4 and 3
    assert (len(windows), windows.predictions) == (2, 7)
    (first, targets, weights), (second, later, rest) = elements(windows)
    np.testing.assert_array_equal(first["inputs"], [[10, 11, 12], [14, 15, 16]])
    np.testing.assert_array_equal(targets, [[11, 12, 13], [15, 16, 17]])
    np.testing.assert_array_equal(weights, np.ones([2, 3]))
    np.testing.assert_array_equal(second["inputs"][0, 0], 13)
    np.testing.assert_array_equal(later, [[14, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(rest, [[1, 0, 0], [0, 0, 0]])


def test_evaluation_predicts_every_token_once_from_the_token_before():
    for n, rows, unroll in itertools.product([2, 3, 7, 12, 13, 50], [1, 2, 3, 5, 8], [1, 2, 4, 5, 60]):
        windows = evaluation_windows(np.arange(n), rows, unroll)
        seen = []
        for inputs, targets, weights in elements(windows):
            assert set(np.unique(weights)) <= {0.0, 1.0}
            assert inputs["inputs"].shape == targets.shape == weights.shape == (rows, unroll)
            seen += targets[weights == 1].tolist()
            np.testing.assert_array_equal(inputs["inputs"][weights == 1] + 1, targets[weights == 1])
            assert not targets[weights == 0].any()
        assert sorted(seen) == list(range(1, n)), (n, rows, unroll)
        assert windows.predictions == n - 1


def test_training_never_doubles_and_drops_less_than_a_window_of_each_row():
    for n, batch, unroll in itertools.product([20, 31, 57], [1, 2, 3, 4], [1, 2, 4]):
        windows = train_windows(np.arange(n), batch, unroll)
        seen = np.concatenate([targets.ravel() for _, targets, _ in elements(windows)])
        assert len(set(seen.tolist())) == len(seen) == windows.predictions == batch * unroll * len(windows)
        assert all(weights.all() for _, _, weights in elements(windows))
        assert (len(windows) + 1) * unroll > n // batch - 1


@pytest.mark.parametrize("make", [train_windows, evaluation_windows])
def test_a_window_goes_on_where_the_one_before_ended(make):
    windows = make(np.arange(1, 62), 3, 4)
    for (_, targets, weights), (inputs, _, _) in itertools.pairwise(elements(windows)):
        going_on = weights[:, -1] == 1
        np.testing.assert_array_equal(inputs["inputs"][going_on, 0], targets[going_on, -1])
        assert not inputs["is_first"].any()


def test_padding_the_tail_trains_on_every_token():
    tokens = np.arange(100)
    assert_same(elements(train_windows(tokens, 3, 7, tail="pad")), elements(evaluation_windows(tokens, 3, 7)))


@pytest.mark.parametrize("make", [train_windows, evaluation_windows])
def test_dataset_gives_the_elements(make):
    windows = make(np.arange(5, 105), 3, 4)
    dataset = windows.dataset()
    assert len(dataset) == len(windows)
    inputs, targets, weights = dataset.element_spec
    assert inputs == {
        "inputs": tf.TensorSpec([3, 4], tf.int32),
        "is_first": tf.TensorSpec([3], tf.bool),
    }
    assert (targets, weights) == (tf.TensorSpec([3, 4], tf.int32), tf.TensorSpec([3, 4], tf.float32))
    assert_same(list(dataset.as_numpy_iterator()), elements(windows))
    assert_same(list(dataset.as_numpy_iterator()), elements(windows))  # a second pass is the same


def test_start_is_skip_also_over_passes():
    windows = train_windows(np.arange(100), 3, 4)
    count = len(windows)
    whole = list(windows.dataset(repeat=True).take(3 * count).as_numpy_iterator())
    assert_same(whole, elements(windows) * 3)
    assert whole[count][0]["is_first"].all()
    for start in (0, 1, count - 1, count):
        assert_same(list(windows.dataset(start=start).as_numpy_iterator()), elements(windows)[start:])
    for start in (0, 5, count, 2 * count + 3):
        resumed = list(windows.dataset(start=start, repeat=True).take(4).as_numpy_iterator())
        expected = [windows.element((start + later) % count) for later in range(4)]
        assert_same(resumed, expected)
    assert windows.dataset(repeat=True).cardinality() == tf.data.INFINITE_CARDINALITY


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_windows(np.arange(7), 2, 3), r"7 tokens are too few for batch=2, unroll=3: .* 8"),
        (lambda: train_windows(np.arange(7), 0, 3), "batch=0: accepted 1 or more"),
        (lambda: train_windows(np.arange(7), 1, -1), "unroll=-1"),
        (lambda: train_windows(np.arange(70), 2, 3, tail="dorp"), "unknown tail 'dorp': did you mean drop"),
        (lambda: evaluation_windows(np.arange(1), 1, 3), "1 tokens leave nothing to predict"),
        (lambda: evaluation_windows(np.arange(0), 1, 3), "0 tokens"),
        (lambda: evaluation_windows(np.arange(9), 0, 3), "rows=0"),
        (lambda: evaluation_windows(np.zeros([3, 3], int), 1, 3), r"\(3, 3\)"),
        (lambda: evaluation_windows(np.zeros(3), 1, 3), "float64"),
        (lambda: train_windows(np.arange(70), 2, 3).dataset(start=12), r"start=12 .* 0 to 11"),
        (lambda: train_windows(np.arange(70), 2, 3).dataset(start=-1, repeat=True), "start=-1"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_the_smallest_corpus_that_is_enough():
    assert len(train_windows(np.arange(8), 2, 3)) == 1
    with pytest.raises(IndexError):
        train_windows(np.arange(8), 2, 3).element(1)
