"""The draw that layers read their weights from while they run; internal.

What users call takes a draw as an argument: `model.predict(x, draw=draw)`, `draw.run(network, x)`. The layers
between that call and a weight have signatures that are Keras's, so the draw reaches them here. It is read
while a layer's call is traced, and a compiled function keeps what it has been traced with: so it is put in
force inside the function that runs the network, and reading it in another one is an error.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf

from tfp_bayesrnn import keras_internals, noise

Draw = Any
"""A `tfp_bayesrnn.Draw`; that module imports this one."""


class _Context:
    """A draw in force, its graph, how often it was read and how many mask seeds it has given out."""

    def __init__(self, draw: Draw):
        self.draw = draw
        self.graph = _graph()
        self.reads = 0
        self.masks = 0

    def read(self) -> Draw:
        graph = _graph()
        while graph is not self.graph:
            if graph is None or not keras_internals.is_control_flow(graph):
                raise ValueError(
                    "A compiled function would keep the draw that it is traced under for ever. Give the draw "
                    "as an argument: model.predict(x, draw=draw), model.evaluate(x, y, draw=draw) or, for "
                    "any network, draw.run(network, x); inside a tf.function call draw.run there. "
                    f"Received: function={graph and graph.name!r}"
                )
            graph = graph.outer_graph
        self.reads += 1
        return self.draw


class _InForce(threading.local):
    """The stack of draws in force in this thread (each replica of a strategy runs in a thread of its own)."""

    def __init__(self) -> None:
        self.stack: list[_Context] = []


_IN_FORCE = _InForce()


def _graph() -> tf.Graph | None:
    """The graph that is being traced; None in eager mode."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


@contextlib.contextmanager
def under(draw: Draw) -> Iterator[_Context]:
    """Within this context, this thread and this graph, layers read their weights from the draw."""
    context = _Context(draw)
    _IN_FORCE.stack.append(context)
    try:
        yield context
    finally:
        _IN_FORCE.stack.pop()


def draw_in_force() -> Draw | None:
    """The innermost draw in force in this thread.

    Raises:
      ValueError: if it was put in force outside of the compiled function that is being traced.
    """
    return _IN_FORCE.stack[-1].read() if _IN_FORCE.stack else None


def check_has(draw: Draw, weights: Iterable[Any], layer: str) -> None:
    """Refuses to run a layer under a draw that lacks some of its weights, which might be those of another.

    Raises:
      ValueError: if there are some.
    """
    missing = [weight.path for weight in weights if weight not in draw]
    if missing:
        raise ValueError(
            "A draw must have a value for every weight of the layers that run under it: draw from the "
            "posterior of the whole network, once it is built, or add the means of the others, "
            "Draw({**Posterior.of(network).mean(), **draw}, seed=draw.seed). "
            f"Received: layer={layer!r}, draw of {len(draw)} weights, without {missing[0]!r}"
        )


def next_mask_seed() -> tf.Tensor | None:
    """Returns a fresh seed for a dropout mask under the draw in force; None if that draw has no masks.

    Masks are numbered in the order in which layers ask, so the same draw gives the same masks.
    """
    context = _IN_FORCE.stack[-1]
    draw = context.read()
    if draw.seed is None:
        return None
    context.masks += 1
    return noise.derive(draw.seed, noise.Stream.MASKS, context.masks)


def refuse_around(function: str, instead: str) -> None:
    """Raises `ValueError` where a draw is in force: a function that Keras has compiled would not read it."""
    if _IN_FORCE.stack:
        raise ValueError(
            f"{function} runs functions that Keras compiles once, which do not see a draw around them: "
            f"{instead}. Received: draw of {len(_IN_FORCE.stack[-1].draw)} weights, by draw.run"
        )
