"""The recurrent layers that a network can be made of, by the names that `model.cell` has for them.

TensorFlow is not imported: listing presets does without.
"""

from __future__ import annotations

from zoo.later import later

CELLS = {
    "lstm": later("tfp_bayesrnn", "VariationalLSTM"),
    "gru": later("tfp_bayesrnn", "VariationalGRU"),
    "mgu": later("tfp_bayesrnn", "VariationalMGU"),
}
"""Name -> the layer, a `tfp_bayesrnn.VariationalRNN`."""


def layer_class(name: str) -> type:
    """Returns the class of the recurrent layer of a name.

    Raises:
      InputError: the name is not in `CELLS`.
    """
    from tfp_bayesrnn.errors import unknown_name

    if name not in CELLS:
        raise unknown_name("cell", name, CELLS)
    return CELLS[name].load()
