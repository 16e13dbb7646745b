"""Checks of what is known only when it is computed: the classes of targets, the ids of an embedding.

XLA leaves TensorFlow's assertions out, and then computes something with what they should have stopped. So
what a compiled function finds is handed out of it: where it is `collecting`, a check is noted, and outside
`passed_on` raises, or notes it in turn.

    compiled = tf.function(checks.collecting(function), jit_compile=True)  # Calls `checks.within` somewhere.
    loss, found = compiled(inputs)
    loss = checks.passed_on(found, loss)
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf


class Check(NamedTuple):
    """What was found, scalars. It holds where there are no values."""

    holds: tf.Tensor  # Bool.
    lowest: tf.Tensor  # Of the values, float32.
    highest: tf.Tensor


Found = dict[str, Check]
"""From what is accepted, as a sentence, to what was found."""


class _Collectors(threading.local):
    """Those in force in this thread (each replica of a strategy runs in a thread of its own)."""

    def __init__(self) -> None:
        self.stack: list[tuple[Any, Found]] = []


_COLLECTORS = _Collectors()


def _graph() -> Any:
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


@contextlib.contextmanager
def collected() -> Iterator[Found]:
    """Within this context and this graph checks are noted in what it gives, and nothing is raised."""
    found: Found = {}
    _COLLECTORS.stack.append((_graph(), found))
    try:
        yield found
    finally:
        _COLLECTORS.stack.pop()


def collecting(function: Callable[..., Any]) -> Callable[..., tuple[Any, Found]]:
    """The function, which gives what it finds beside its result."""

    def with_findings(*arguments: Any) -> tuple[Any, Found]:
        with collected() as found:
            return function(*arguments), found

    return with_findings


def is_collected() -> bool:
    """Whether a check that is made here is noted: not inside of a loop, whose values do not leave it."""
    return bool(_COLLECTORS.stack) and _COLLECTORS.stack[-1][0] is _graph()


def within(values: tf.Tensor, low: float, high: float, accepted: str, whole: bool = False) -> tf.Tensor:
    """The values, of which all must lie between `low` and `high`.

    Args:
      values: of any shape and type.
      low: the least that is accepted.
      high: the most.
      accepted: the rule, as a sentence that ends an error may begin with.
      whole: whether they must be whole numbers too.

    Raises:
      ValueError: in eager mode, where they are not. In a graph tf.errors.InvalidArgumentError is raised when
        it runs, which `explained` translates; within `collected` nothing is.
    """
    holds = tf.reduce_all((values >= tf.cast(low, values.dtype)) & (values <= tf.cast(high, values.dtype)))
    if whole and values.dtype.is_floating:
        holds &= tf.reduce_all(tf.equal(values, tf.round(values)))
    ends = [tf.cast(reduce(values), tf.float32) for reduce in (tf.reduce_min, tf.reduce_max)]
    return passed_on({accepted: Check(holds, *ends)}, values)


def passed_on(found: Found, values: Any) -> Any:
    """The values, once what was found is noted, where checks are collected, or enforced; see `enforce`."""
    if not is_collected():
        return enforce(found, values)
    noted = _COLLECTORS.stack[-1][1]
    for accepted, check in found.items():
        noted[accepted] = _both(noted[accepted], check) if accepted in noted else check
    return values


def _both(one: Check, other: Check) -> Check:
    return Check(
        one.holds & other.holds,
        tf.minimum(one.lowest, other.lowest),
        tf.maximum(one.highest, other.highest),
    )


def enforce(found: Found, values: Any) -> Any:
    """The values, tensors in any structure, none of which can be used before everything found holds.

    Raises:
      ValueError: as for `within`.
    """
    if tf.executing_eagerly():
        for accepted, check in found.items():
            if not bool(check.holds):
                raise ValueError(_error(accepted, float(check.lowest), float(check.highest)))
        return values
    assertions = [
        tf.debugging.Assert(check.holds, [_MARK + accepted, check.lowest, check.highest])
        for accepted, check in found.items()
    ]
    if not assertions:
        return values
    with tf.control_dependencies(assertions):
        return tf.nest.map_structure(lambda value: None if value is None else tf.identity(value), values)


# How an assertion of ours is found in TensorFlow's message, which has its data in brackets.
_MARK = "tfp_bayesrnn: "
_PATTERN = re.compile(rf"\[{_MARK}(.*?)\] \[(.*?)\] \[(.*?)\]", re.DOTALL)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns an assertion of `within` that fails in a graph into the ValueError that it is in eager mode."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        failed = _PATTERN.search(error.message)
        if failed is None:
            raise
        # TensorFlow has it escaped as in C.
        accepted = failed[1].encode().decode("unicode_escape").encode("latin-1").decode()
        message = _error(accepted, float(failed[2]), float(failed[3]))
        raise ValueError(message) from None


def _error(accepted: str, lowest: float, highest: float) -> str:
    return f"{accepted}. Received: values from {lowest:g} to {highest:g}"
