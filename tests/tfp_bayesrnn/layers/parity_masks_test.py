"""Recurrent layers against Keras's own: masks of every kind, directions and states; outputs and gradients."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from parity_models import (
    BATCH,
    IDS,
    LAYERS,
    OURS,
    RECURRENT,
    RNG,
    SEQUENCES,
    STEPS,
    UNITS,
    VOCABULARY,
    assert_same,
    pair,
)

# Rows of a mask: padding at the end, at the start, within, everywhere, nowhere.
_ROWS = {
    "trailing": [1, 1, 1, 0, 0],
    "leading": [0, 0, 1, 1, 1],
    "inner": [1, 0, 1, 0, 1],
    "all": [0, 0, 0, 0, 0],
    "none": [1, 1, 1, 1, 1],
}
_TWO = np.array([_ROWS["trailing"], _ROWS["leading"], _ROWS["inner"]])
_EDGES = np.array([_ROWS["all"], _ROWS["none"], _ROWS["trailing"]])
MASKS = {
    "no mask": None,
    "bool": _TWO.astype(bool),
    "int32": _TWO.astype(np.int32),
    "float32": _TWO.astype(np.float32),
    "uint8, with an axis of units": _EDGES.astype(np.uint8)[:, :, np.newaxis],
    "float64, all or nothing": 0.5 * _EDGES,  # Not zero is kept.
}
OPTIONS = {
    "last": {},
    "all, state": {"return_sequences": True, "return_state": True},
    "all, zeros": {"return_sequences": True, "zero_output_for_mask": True},
    "last, zeros": {"zero_output_for_mask": True},
    "backwards": {"return_sequences": True, "return_state": True, "go_backwards": True},
    "backwards, zeros": {"return_sequences": True, "go_backwards": True, "zero_output_for_mask": True},
}

STATES = {"Bidirectional(LSTM)": 4, "Bidirectional(GRU)": 2}

each_layer = pytest.mark.parametrize("name", RECURRENT)
each_weights = pytest.mark.parametrize("weights", OURS)


@functools.cache
def cached_pair(name, weights, options):
    return pair(RECURRENT[name], weights, **OPTIONS[options])


def cases_of_masks():
    """Every layer with every mask and every option, though not with all of both at once."""
    for name in RECURRENT:
        # Keras itself loops over the cells; and its Bidirectional sets both directions and the zeros.
        options = list(OPTIONS) if name in ("LSTM", "GRU", "GRU, reset before") else ["last", "all, state"]
        masks = itertools.cycle(MASKS)
        for option in options:
            for mask in itertools.islice(masks, len(MASKS) // 2 if len(options) == 2 else 2):
                yield name, option, mask


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("name, options, mask", list(cases_of_masks()))
def test_masks(name, options, mask):
    layers = cached_pair(name, "posterior mean", options)
    assert_same(*layers, SEQUENCES, **({} if MASKS[mask] is None else {"mask": MASKS[mask]}))


@pytest.mark.slow(every=3)
@each_layer
def test_point_masses_train_like_weights(name):
    layers = cached_pair(name, "point mass", "all, state")
    assert_same(*layers, SEQUENCES, training=True, mask=MASKS["int32"])


@pytest.mark.slow(every=3)
@each_layer
def test_initial_states(name):
    layers = cached_pair(name, "posterior mean", "all, state")
    states = layers[1].get_initial_state(BATCH) if hasattr(layers[1], "get_initial_state") else None
    states = [np.zeros((BATCH, UNITS))] * STATES[name] if states is None else states
    states = keras.tree.map_structure(lambda state: RNG.normal(size=state.shape).astype(np.float32), states)
    assert_same(*layers, SEQUENCES, initial_state=states, mask=MASKS["float32"])


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN(GRUCell)", "Bidirectional(LSTM)"])
def test_states_that_are_kept(name):
    ours, theirs = pair(RECURRENT[name], "posterior mean", stateful=True, return_sequences=True)
    for mask in (None, MASKS["int32"], MASKS["bool"]):
        kwargs = {} if mask is None else {"mask": mask}
        for one, other in zip((ours(SEQUENCES, **kwargs),), (theirs(SEQUENCES, **kwargs),), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    ours.reset_state(), theirs.reset_state()
    np.testing.assert_allclose(ours(SEQUENCES), theirs(SEQUENCES), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_masks_under_xla(name):
    """Keras's own layer compiles with them too."""
    ours, theirs = cached_pair(name, "posterior mean", "all, zeros")

    @functools.partial(tf.function, jit_compile=True)
    def compiled(*masks):
        return [ours(SEQUENCES, mask=mask) for mask in masks]

    masks = [tf.constant(MASKS[kind]) for kind in ("int32", "float32", "bool")]
    for output, mask in zip(compiled(*masks), masks, strict=True):
        np.testing.assert_allclose(output, theirs(SEQUENCES, mask=mask), rtol=1e-5, atol=1e-5)


@each_weights
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
def test_embedding(dtype, weights):
    make = lambda kinds: kinds.Embedding(VOCABULARY, UNITS, mask_zero=True)  # noqa: E731
    ours, theirs = pair(make, weights, shape=IDS.shape)
    ids = IDS.astype(dtype)
    assert_same(ours, theirs, tf.cast(ids, tf.int32))
    np.testing.assert_array_equal(ours(ids), theirs(ids))
    np.testing.assert_array_equal(ours.compute_mask(ids), theirs.compute_mask(ids))


@each_weights
@pytest.mark.parametrize("name", [name for name in LAYERS if name not in RECURRENT])
def test_feed_forward(name, weights):
    assert_same(*pair(LAYERS[name], weights), SEQUENCES, training=weights == "point mass")


def test_lengths_of_rows_are_those_of_the_steps():
    assert all(len(row) == STEPS for row in _ROWS.values())
