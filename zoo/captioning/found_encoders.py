"""Encoders that are not of `keras.applications`: Keras models in files, and KerasHub's backbones.

Once a run has begun it does without their files: the workdir keeps the architecture of its encoder
(`ENCODER_FILE`) and each checkpoint the weights.
"""

from __future__ import annotations

import json
import os
from typing import Any

import keras

from tfp_bayesrnn.errors import InputError, quoted
from tfp_bayesrnn.filesystem.paths import check_regular, local_path
from zoo.captioning.configuration import HUB
from zoo.filesystem.files import explained, is_there
from zoo.runs.workdir import Workdir

ENCODER_FILE = "encoder.json"
"""The file of a workdir that has the architecture of an encoder of this kind."""


def saved_body(name: str) -> keras.Model:
    """The model in a `.keras` file; it keeps the precision it was saved with.

    Raises:
      InputError: it cannot be read, or its layers cannot be made.
    """
    path = os.fspath(local_path(name, "encoder.name"))
    with explained(path, "read"):
        os.stat(path)
        check_regular(path)
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises many types, depending on what is damaged or unknown.
        raise InputError(
            f"encoder {quoted(name)} cannot be loaded: {_line(error)}; accepted: a .keras file of layers "
            "that are Keras's own or registered"
        ) from None


def hub_body(name: str) -> tuple[keras.Model, dict[str, Any]]:
    """KerasHub's image backbone of a preset, and the scale and offset that its images are to have.

    Raises:
      InputError: KerasHub is not installed, or the preset cannot be had.
    """
    hub, preset = _keras_hub(name), name.removeprefix(HUB)
    try:
        body = hub.models.Backbone.from_preset(preset)
    except Exception as error:  # A download, a file or a name can raise nearly anything.
        raise InputError(
            f"encoder {quoted(name)} cannot be had: {_line(error)}; accepted after {HUB!r}: a preset of "
            "KerasHub's image backbones, or the directory of one"
        ) from None
    try:
        converter = hub.layers.ImageConverter.from_preset(preset)
    except Exception:  # A preset without one raises as many: its backbone takes pixels as they are.
        return body, {}
    scaling = {"scale": converter.scale, "offset": converter.offset}
    return body, {key: value for key, value in scaling.items() if value is not None}


def encoder_of(architecture: str) -> keras.Model:
    """The encoder, with random weights, of what `ENCODER_FILE` holds.

    Raises:
      InputError: its layers cannot be made.
    """
    if "keras_hub" in architecture:
        _keras_hub(ENCODER_FILE)
    try:
        found = keras.models.model_from_json(architecture)
        if not isinstance(found, keras.Model):
            raise TypeError(f"a {type(found).__name__} is no model")
    except Exception as error:  # Of unknown or changed layers Keras raises many types.
        raise InputError(
            f"the encoder that {ENCODER_FILE} describes cannot be made: {_line(error)}"
        ) from None
    return found


def kept_architecture(workdir: Workdir) -> str | None:
    """What a workdir's `ENCODER_FILE` holds; None where there is none.

    Raises:
      InputError: it cannot be read, or is damaged.
    """
    path = workdir.path / ENCODER_FILE
    return workdir.read(path).decode("utf-8", "replace") if is_there(path) else None


def architecture_of(encoder: keras.Model) -> str:
    """What `ENCODER_FILE` is to hold of an encoder."""
    return json.dumps(json.loads(encoder.to_json()), indent=1) + "\n"


def _keras_hub(name: str) -> Any:
    try:
        import keras_hub
    except ImportError as error:
        raise InputError(
            f"{quoted(name)} needs KerasHub, which cannot be imported ({_line(error)}): pip install '.[hub]'"
        ) from None
    return keras_hub


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
