"""The presets of the captioning models: what differs from the defaults of `zoo.captioning.configuration`.

The numbers come from:

- Vinyals, Toshev, Bengio, Erhan, "Show and Tell: A Neural Image Caption Generator" (2015) and "Show and Tell:
  Lessons Learned from the 2015 MSCOCO Image Captioning Challenge" (2017), and the code released with the
  second, im2txt: an encoder trained on ImageNet (InceptionV3, images of 299 pixels, left as it is at first),
  words and LSTM of 512 units drawn from [-0.08, 0.08], minibatches of 32, SGD at 2.0 halved every 8 epochs,
  gradients clipped at 5, 30 % dropout on what enters and leaves the LSTM, beams of 3.
- Fortunato, Blundell, Vinyals, "Bayesian Recurrent Neural Networks" (2017), section 6.2: the same model with
  Bayes by Backprop in the LSTM in place of dropout, the encoder as it was, and the language models' prior.
  The other settings were searched for as theirs were; the outcome is not said, so theirs are taken.

- Xu, Ba, Kiros et al., "Show, Attend and Tell" (2015): the presets with attention, without the penalty on
  places that are never looked at.

Of our choice is all that concerns the drawings and Flickr8k but the dropout rate; on COCO

- the schedule's form: a rate that falls by the same factor every epoch and has halved after 8, where im2txt
  halves it at once (the two agree in every eighth epoch);
- a minibatch of 32 images with all their captions, where im2txt takes 32 captions; and as a step's loss is a
  sum over an image's words, about 57 with five captions, where im2txt's is a mean over words, its rate is
  divided by 57 and its clip multiplied by it: the same step for the same gradient;
- 55 epochs: im2txt's million steps see each of its captions so often;
- sharpening, which the paper has for language models only.

Variational dropout is not offered: neither paper has it for captions.
"""

from __future__ import annotations

from typing import Any

from zoo.captioning.configuration import COMPACT, IMAGENET, METHODS
from zoo.configuration import methods
from zoo.data.datasets import CAPTION_SETS

# Where a few thousand steps are all there are, weights that start as unsure as the released language models'
# would hide from the encoder what it is to learn.
_POSTERIOR = {"recurrent_scale_range": (0.05, 0.1), "other_scale_range": (0.1, 0.2)}

_SHAPES_DEMO = {
    "remark": "sizes, schedule and initial posterior of our choice",
    "data": {"name": "builtin_shapes", "max_words": 22, "shift": True},
    "encoder": {"name": COMPACT, "image_size": 64, "width": 16},
    "model": {"embedding_units": 64, "units": 128, "layers": 1, "init_range": 0.1, "image_as": "state"},
    "posterior": _POSTERIOR,
    "rates": {"dropout": 0.3},
    "train": {
        "batch": 16,
        "optimizer": "adam",
        "learning_rate": 0.002,
        "epochs": 12,
        "hold_epochs": 10,
        "decay": 0.3,
        "clip_norm": 5.0,
    },
    "jit_compile": "off",  # On a CPU convolutions are slower in XLA.
}

_FLICKR8K = {
    "remark": "encoder from scratch; sizes, schedule and initial posterior of our choice",
    "data": {"name": "flickr8k", "max_words": 20, "shift": True, "flip": True},
    "encoder": {"name": COMPACT, "image_size": 112, "width": 32},
    "model": {"embedding_units": 256, "units": 256, "layers": 1, "init_range": 0.08, "image_as": "state"},
    "posterior": _POSTERIOR,
    "rates": {"dropout": 0.3},
    "train": {
        "batch": 32,
        "optimizer": "adam",
        "learning_rate": 0.001,
        "epochs": 12,
        "hold_epochs": 7,
        "decay": 0.7,
        "clip_norm": 5.0,
    },
    "jit_compile": "off",  # On a CPU convolutions are slower in XLA.
}

_FROZEN: dict[str, Any] = {
    "remark": "frozen ImageNet encoder; sizes, schedule and initial posterior of our choice",
    # Neither shifts nor mirrors images: what the encoder makes of one is kept.
    "data": {"name": "flickr8k", "max_words": 20},
    "encoder": {"name": "EfficientNetB0", "image_size": 224, "weights": IMAGENET, "trainable": False},
    "model": {"embedding_units": 256, "units": 512, "layers": 1, "init_range": 0.08, "image_as": "state"},
    "posterior": _POSTERIOR,
    "rates": {"dropout": 0.3},
    "train": {
        "batch": 32,
        "optimizer": "adam",
        "learning_rate": 0.001,
        "epochs": 20,
        "hold_epochs": 12,
        "decay": 0.7,
        "clip_norm": 5.0,
    },
    "jit_compile": "auto",
}

_ATTENTION = {**_FROZEN, "model": {**_FROZEN["model"], "image_as": "attention", "attention_units": 256}}

_WORDS_PER_IMAGE = 57  # The words of five captions on COCO, their ends counted.

_COCO = {
    "remark": "rate halved over every 8 epochs, not at once",
    # Neither shifts nor mirror images: the encoder's vector of an image is kept.
    "data": {"name": "coco_captions", "max_words": 20},
    "encoder": {
        "name": "InceptionV3",
        "image_size": 299,
        "width": 32,
        "weights": IMAGENET,
        "trainable": False,
    },
    "model": {"embedding_units": 512, "units": 512, "layers": 1, "init_range": 0.08, "image_as": "input"},
    "posterior": {},
    "rates": {"dropout": 0.3},
    "train": {
        "batch": 32,
        "optimizer": "sgd",
        "learning_rate": 2.0 / _WORDS_PER_IMAGE,
        "epochs": 55,
        "hold_epochs": 8,
        "decay": 0.5 ** (1 / 8),
        "clip_norm": 5.0 * _WORDS_PER_IMAGE,
    },
    "jit_compile": "auto",
}

_SETTINGS = {
    "shapes_demo": _SHAPES_DEMO,
    "flickr8k": _FLICKR8K,
    "flickr8k_frozen": _FROZEN,
    "flickr8k_attention": _ATTENTION,
    "coco": _COCO,
}


def _description(settings: dict[str, Any], method: str) -> str:
    remark, kl_weight = settings["remark"], settings["train"].get("kl_weight", 1.0)
    if method in methods.BAYESIAN_METHODS and kl_weight < 1:
        remark += f"; tempered: KL weight {kl_weight:g}"
    return f"{methods.LABELS[method]}, captions of {CAPTION_SETS[settings['data']['name']].about} ({remark})"


def _captioning(name: str, settings: dict[str, Any], method: str) -> dict[str, Any]:
    return {
        "task": "captioning",
        "preset": name,
        "description": _description(settings, method),
        "method": method,
        "data": settings["data"],
        "encoder": settings["encoder"],
        "model": {**settings["model"], **(settings["rates"] if method == "dropout" else {})},
        "posterior": settings["posterior"],
        "train": settings["train"],
        "evaluate": {"max_words": settings["data"]["max_words"]},
        "jit_compile": settings["jit_compile"],
    }


def _all() -> dict[str, dict[str, Any]]:
    presets = {
        f"{model}_{method}": _captioning(f"{model}_{method}", settings, method)
        for model, settings in _SETTINGS.items()
        for method in METHODS
    }
    return {**presets, **methods.k_tied(presets)}


PRESETS: dict[str, dict[str, Any]] = _all()
