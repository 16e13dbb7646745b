"""Workdirs of small models of words, and what the command `generate` prints of them."""

import json
import re

import numpy as np

from tfp_bayesrnn.loop.checkpoints import Checkpoints
from zoo.configuration import config as configs
from zoo.data.vocabulary import Vocabulary
from zoo.language_model.model import build_model
from zoo.presets import get_preset
from zoo.runs.workdir import Workdir

VOCABULARY = Vocabulary(["the", "<unk>", "<eos>", "cat", "sat", "on", "mat", "\x1b[2J"])
TINY = {"model.embedding_units": 4, "model.units": 4, "model.layers": 1, "model.init_range": 2.0}


def made(path, preset="demo_bbb", vocabulary=VOCABULARY):
    """A workdir with an untrained model as its best checkpoint; its configuration and the model."""
    config = configs.with_overrides(get_preset(preset), TINY)
    workdir = Workdir(path)
    workdir.claim(config)
    vocabulary.save(workdir.vocabulary_path)
    model = build_model(config, len(vocabulary), 2)
    for variable in model.trainable_variables:
        if variable.name == "mu":  # Others than a new model has.
            variable.assign(np.random.default_rng(5).normal(size=variable.shape))
    Checkpoints(workdir.checkpoints_dir, model.training_state(), best=["model"]).save_best(12)
    return config, model


def with_samples(config, samples):
    return configs.with_overrides(config, {"evaluate.num_samples": samples})


def blocks(out):
    """The lines of the heading; for each prompt its line and its continuations' (lines, figures)."""
    heading, *rest = out.rstrip("\n").split("\n\n")
    found = []
    for block in rest:
        prompt, *lines = block.split("\n")
        continuations, text = [], []
        for line in lines:
            if line.lstrip().startswith("("):
                figures = dict(re.findall(r"([a-z][a-z -]+) (-?[\d.]+)", line))
                continuations.append((text, {name: float(value) for name, value in figures.items()}))
                text = []
            else:
                text.append(line)
        assert not text
        found.append((prompt, continuations))
    return heading.split("\n"), found


def records(text):
    return [json.loads(line) for line in text.splitlines()]
