"""The recurrent layers that a network can be made of, by the names that `model.cell` has for them.

TensorFlow is not imported: listing presets does without.
"""

from __future__ import annotations

import importlib

CELLS = {
    "lstm": ("tfp_bayesrnn", "VariationalLSTM"),
    "gru": ("tfp_bayesrnn", "VariationalGRU"),
    "mgu": ("tfp_bayesrnn", "VariationalMGU"),
}
"""Name -> module and name of the layer, a `tfp_bayesrnn.VariationalRNN`."""


def layer_class(name: str) -> type:
    """The layer of a name.

    Raises:
      InputError: for a name that is not in `CELLS`.
    """
    from tfp_bayesrnn.errors import unknown_name

    if name not in CELLS:
        raise unknown_name("cell", name, CELLS)
    module, layer = CELLS[name]
    return getattr(importlib.import_module(module), layer)
