"""The distributions of the authors' released code, for language models of the size of Penn Treebank's.

    VariationalEmbedding(10_000, 650, **released.OTHERS)
    VariationalLSTM(650, return_sequences=True, **released.RECURRENT)
    VariationalDense(10_000, **released.OTHERS)

    model = BayesianModel(network, training_rows=26_540, kl_warmup_steps=0)
    model.compile(keras.optimizers.SGD(1.0), clip_norm=5.0)

They learn from a million words; with fewer data, or another optimizer, they may not learn at all, where what
the layers do without being told does. Models of the zoo have these values in their configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tfp_bayesrnn.distributions import MeanFieldNormal, ScaleMixturePrior

PRIOR = ScaleMixturePrior()
"""0.25 N(0, exp(-1)^2) + 0.75 N(0, exp(-7)^2), one choice for each row of a weight."""

RECURRENT: Mapping[str, Any] = MappingProxyType({"prior": PRIOR, "posterior": MeanFieldNormal((0.25, 0.5))})
"""The arguments `prior` and `posterior` of a recurrent layer."""

OTHERS: Mapping[str, Any] = MappingProxyType({"prior": PRIOR, "posterior": MeanFieldNormal((0.5, 1.0))})
"""The same of every other layer."""
