"""Twenty steps of training from a fixed seed: the numbers stay what they were, whatever is rearranged.

`PYTHONPATH=.:tests/support python tests/zoo/golden_values_test.py` records them anew, which is right only
where numbers are meant to change; the commit then says why.
"""

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import norm_and_projection

import zoo

FILE = Path(__file__).with_name("golden_values.json")
STEPS, ROWS, LENGTH = 20, 4, 5

DEMO = {"model.units": 6, "model.embedding_units": 6, "jit_compile": "off"}
SHAPES = {
    **DEMO,
    "model.embedding_units": 5,
    "encoder.image_size": 32,
    "encoder.width": 2,
    "data.max_words": LENGTH,
    "evaluate.max_words": LENGTH,
}
PRESETS = {
    **{f"demo_{method}": DEMO for method in ("deterministic", "dropout", "variational_dropout")},
    **{f"demo_{method}": DEMO for method in ("bbb", "bbb_sharpened", "bbb_ktied")},
    **{f"shapes_demo_{method}": SHAPES for method in ("deterministic", "dropout", "bbb", "bbb_sharpened")},
}


def minibatches(preset):
    """Random words, for captioning of random images, in the form that the tasks' streams have."""
    generator = np.random.default_rng(0)

    def words(*shape):
        return generator.integers(1, 12, [STEPS * ROWS, *shape]).astype(np.int32)

    if preset.startswith("shapes"):
        shape = (2, LENGTH)
        images = generator.integers(0, 256, [STEPS * ROWS, 32, 32, 3]).astype(np.uint8)
        inputs = {"image": images, "words": words(*shape)}
    else:
        shape = (LENGTH,)
        inputs = {"inputs": words(*shape), "is_first": np.arange(STEPS * ROWS) < ROWS}
    weights = (generator.random([STEPS * ROWS, *shape]) < 0.9).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices((inputs, words(*shape), weights)).batch(
        ROWS, drop_remainder=True
    )


def trained_values(preset):
    """Of each variable of the network: its norm, and its product with a fixed vector of signs."""
    keras.utils.clear_session()  # Layers that Keras names get the same names as in a new process.
    model = zoo.from_preset(preset, PRESETS[preset])
    model.fit(minibatches(preset), verbose=0)
    values = {}
    for variable in model.trained_variables:
        name = "/".join(variable.path.split("/")[-3:])
        name = re.sub(r"_\d+(?=[-/]|$)", "", name)  # Which count what the process has made.
        values.setdefault(f"{name} {tuple(variable.shape)}", []).append(norm_and_projection(variable.numpy()))
    return values


@pytest.mark.slow(but=["demo_bbb"])
@pytest.mark.parametrize("preset", PRESETS)
def test_twenty_steps_lead_to_the_recorded_values(preset):
    recorded, found = json.loads(FILE.read_text())[preset], trained_values(preset)
    assert found.keys() == recorded.keys()
    for name, expected in recorded.items():
        # Rounding differs between processors, and twenty steps carry it on.
        scale = max(norm for norm, _ in expected)
        np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-3 * scale + 1e-6, err_msg=name)


if __name__ == "__main__":
    FILE.write_text(json.dumps({preset: trained_values(preset) for preset in PRESETS}, indent=1) + "\n")
