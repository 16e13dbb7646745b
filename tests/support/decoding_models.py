"""Models of the next token with known answers, for the tests of greedy decoding, sampling and beam search."""

import itertools

import numpy as np
import tensorflow as tf

SIZE, LENGTH, END, PAD = 4, 4, 2, 9
NODES = (SIZE**LENGTH - 1) // (SIZE - 1)


def tables(rows, scale=1.5, seed=0, end_bias=0.0):
    """Log-probabilities [rows, NODES, SIZE], independent for each row and each of all beginnings."""
    logits = np.random.default_rng(seed).normal(size=(rows, NODES, SIZE)) * scale
    logits[:, :, END] += end_bias
    return (logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)).astype(np.float32)


def node_of(beginning):
    node = 0
    for token in beginning:
        node = SIZE * node + 1 + token
    return node


def table_model(table):
    """The step, the first state and the start tokens; beginnings are numbered as the nodes of a tree."""

    def step(tokens, state):
        row, node = state["row"], state["node"]
        node = tf.where(node < 0, 0, SIZE * node + 1 + tokens)
        log_probs = tf.gather_nd(
            tf.convert_to_tensor(table), tf.stack([row, tf.minimum(node, NODES - 1)], axis=1)
        )
        return log_probs, {"row": row, "node": node}

    rows = table.shape[0]
    return step, {"row": tf.range(rows), "node": tf.fill([rows], -1)}, tf.fill([rows], 3)


def log_prob(table, sequence):
    return sum(float(table[node_of(sequence[:time]), token]) for time, token in enumerate(sequence))


def recurrent_model(rows, seed=8, dtype=tf.float32):
    """A random recurrent network with parts of the state of all ranks; and its log-probabilities in NumPy."""
    random = np.random.default_rng(seed)
    embedding, recurrent, out = (
        random.normal(size=shape).astype(np.float32) for shape in ((SIZE, 6), (6, 6), (6, SIZE))
    )
    image = random.normal(size=(rows, 2, 3)).astype(np.float32)
    weights = random.normal(size=(rows,)).astype(np.float32)

    def step(tokens, state):
        hidden, (count, seen, image, weight) = state
        hidden = tf.tanh(tf.gather(embedding, tokens) + tf.matmul(hidden, recurrent))
        seen = tf.where(tf.range(LENGTH + 1) == count[:, tf.newaxis], tokens[:, tf.newaxis], seen)
        mixed = hidden + tf.reshape(image, [-1, 6]) * tf.cast(tf.reduce_sum(seen, 1), tf.float32)[:, None]
        logits = tf.matmul(mixed * weight[:, tf.newaxis], out)
        return tf.cast(tf.nn.log_softmax(logits), dtype), (hidden, (count + 1, seen, image, weight))

    state = (
        tf.zeros([rows, 6]),
        (tf.zeros([rows], tf.int32), tf.zeros([rows, LENGTH + 1], tf.int32), image, weights),
    )
    start = tf.range(rows) % SIZE

    def table():
        result = np.zeros((rows, NODES, SIZE), np.float32)
        for row in range(rows):
            for length in range(LENGTH):
                for beginning in itertools.product(range(SIZE), repeat=length):
                    hidden, read = np.zeros(6), (int(start[row]), *beginning)
                    for token in read:
                        hidden = np.tanh(embedding[token] + hidden @ recurrent)
                    logits = ((hidden + image[row].ravel() * sum(read)) * weights[row]) @ out
                    result[row, node_of(beginning)] = logits - np.logaddexp.reduce(logits)
        return result

    return step, state, start, table


def sequences_of(decoded):
    """The sequences as tuples with their end tokens, after a check that all parts agree; [B] or [B, K]."""
    tokens, lengths, totals, parts, finished = (np.asarray(part) for part in decoded)
    assert tokens.dtype == lengths.dtype == np.int32 and totals.dtype == parts.dtype == np.float32
    sizes = lengths + finished
    np.testing.assert_array_equal(tokens == PAD, np.arange(tokens.shape[-1]) >= sizes[..., None])
    np.testing.assert_allclose(parts.sum(-1), totals, rtol=1e-5)
    dead_end = (np.arange(tokens.shape[-1]) == sizes[..., None]) & np.isneginf(totals)[..., None]
    assert np.all((parts == 0) | (tokens != PAD) | dead_end)
    for index in np.ndindex(finished.shape):
        sequence = tokens[index][: sizes[index]]
        assert (sequence == END).sum() == finished[index]
    result = np.empty(finished.shape, object)
    for index in np.ndindex(finished.shape):
        result[index] = tuple(int(token) for token in tokens[index][: sizes[index]])
    return result
