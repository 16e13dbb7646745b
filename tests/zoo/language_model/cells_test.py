"""Networks of any cell: those of the registry, by name, in language models and in captioning models."""

import captioning_models
import keras
import numpy as np
import pytest
from captioning_models import VOCABULARY, pixels, words_of

import zoo
from tfp_bayesrnn import InputError, MeanFieldNormal, Posterior, VariationalRNN
from zoo.language_model.cells import CELLS, layer_class
from zoo.language_model.network import LanguageModelNetwork

UNITS = 5
# Gates and states of each.
KINDS = {"lstm": (4, 2), "gru": (3, 1), "mgu": (2, 1)}
IDS = np.random.default_rng(0).integers(0, len(VOCABULARY), (2, 6))


def test_all_cells_are_tried():
    assert KINDS.keys() == CELLS.keys()
    assert all(issubclass(layer_class(name), VariationalRNN) for name in CELLS)


@pytest.mark.parametrize("cell", KINDS)
def test_a_language_model_of_it(cell):
    gates, states = KINDS[cell]
    network = captioning_models.decoder(MeanFieldNormal(), cell=cell, layers=2)
    network.build()
    recurrent = [weight for weight in Posterior.of(network).weights if f"{cell}_" in weight.path]
    bias = 2 if cell == "gru" else 1  # That of Keras's GRU has two rows.
    inputs = (3, UNITS)  # Of the first layer and of the second.
    assert sum(np.prod(weight.shape) for weight in recurrent) == sum(
        gates * UNITS * (size + UNITS + bias) for size in inputs
    )
    assert network.state_sizes == [UNITS] * states * 2
    whole, _ = network.run(IDS, network.get_initial_state(2))
    first, state = network.run(IDS[:, :2], network.get_initial_state(2))
    second, _ = network.run(IDS[:, 2:], state)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=1e-4, atol=1e-5)
    again = LanguageModelNetwork.from_config(network.get_config())
    again.build()
    assert [v.path.split("/")[1:] for v in again.variables] == [
        v.path.split("/")[1:] for v in network.variables
    ]


@pytest.mark.slow
@pytest.mark.parametrize("image_as", ["input", "state"])
@pytest.mark.parametrize("cell", ["gru", "mgu"])
def test_a_captioning_model_of_it(cell, image_as):
    network = captioning_models.network(image_as=image_as, cell=cell, layers=2, unit_forget_bias=True)
    assert network.projection.units == (3 if image_as == "input" else 2 * UNITS)
    inputs = {"image": pixels(2), "words": words_of(2, 2, 4)}
    logits = network(inputs).numpy()
    assert logits.shape == (2, 2, 4, len(VOCABULARY))
    other = network({**inputs, "image": pixels(2, seed=1)}).numpy()
    assert np.abs(other - logits).max() > 1e-4  # The image is heard.


def test_networks_that_were_saved_before_have_an_lstm():
    config = captioning_models.decoder(unit_forget_bias=True).get_config()
    assert config.pop("cell") == "lstm"
    network = LanguageModelNetwork.from_config(config)
    network.build()
    assert [layer.name for layer in network.recurrent] == ["lstm_0"]
    assert keras.ops.all(network.recurrent[0].cell.bias.mu[UNITS : 2 * UNITS] == 1.0)


def test_another_cell():
    with pytest.raises(
        InputError, match=r"unknown cell 'grru': did you mean gru or mgu\? Accepted: gru, lstm, mgu"
    ):
        captioning_models.decoder(cell="grru")


@pytest.mark.slow
@pytest.mark.parametrize("preset, cell", [("demo_bbb", "mgu"), ("shapes_demo_bbb", "gru")])
def test_a_preset_with_another_cell_trains(preset, cell, eagerly):
    overrides = {"model.cell": cell, "model.units": 5, "model.embedding_units": 4, "jit_compile": "off"}
    words = np.random.default_rng(0).integers(1, 12, (2, 2, 6))
    if preset.startswith("shapes"):
        overrides |= {"encoder.image_size": 32, "encoder.width": 2}
        inputs = {"image": pixels(2, 32), "words": words[:, :, :-1]}
    else:
        words = words[0]
        inputs = {"inputs": words[:, :-1], "is_first": np.array([True, True])}
    model = zoo.from_preset(preset, overrides)
    recurrent = [v for v in model.trainable_variables if f"{cell}_0" in v.path]
    before = [variable.numpy() for variable in recurrent]
    targets = words[..., 1:]
    history = model.fit(
        inputs, targets, sample_weight=np.ones(targets.shape), batch_size=2, verbose=0
    ).history
    assert np.isfinite(history["loss"]).all()
    assert len(recurrent) == 6  # Mean and scale of kernel, recurrent kernel and bias.
    assert all(np.any(old != new) for old, new in zip(before, recurrent, strict=True))
