"""What the networks of all tasks have in common: how they are saved, and in which precision they compute."""

from __future__ import annotations

from typing import Any, Self

import keras

from zoo.runs.settings import RunConfig

_DISTRIBUTIONS = ("prior", "recurrent_posterior", "other_posterior")


class VariationalNetwork(keras.Model):
    """A network with a prior, and a posterior for its recurrent and for its other weights; None for points.

    A subclass keeps these in `_prior`, `_recurrent_posterior` and `_other_posterior`, and the other arguments
    of its constructor in `_arguments`.
    """

    _arguments: dict[str, Any]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        serialize = keras.saving.serialize_keras_object
        distributions = {name: serialize(getattr(self, f"_{name}")) for name in _DISTRIBUTIONS}
        return {**super().get_config(), **self._arguments, **distributions}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The network whose `get_config` gave `config`."""
        config = dict(config)
        for name in _DISTRIBUTIONS:
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


def dtype_policy(config: RunConfig) -> str:
    """Keras's name for the precision of a resolved configuration: variables stay float32."""
    return config.compute_dtype if config.compute_dtype == "float32" else f"mixed_{config.compute_dtype}"
