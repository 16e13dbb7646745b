"""The benchmarks of exports: what they measure is what they say."""

import numpy as np
import pytest
import scipy.special
from export_models import language_model, language_model_export

import zoo
from benchmarks import export_formats, export_throughput
from tfp_bayesrnn.export.saved_model import write_saved_model
from tfp_bayesrnn.posterior import ambient


@pytest.mark.slow
def test_perplexity_is_of_rows_behind_an_eos(tmp_path):
    model = language_model()
    task = language_model_export(model, tmp_path)
    write_saved_model(tmp_path / "model", task.module, task.signatures())
    ids = np.random.default_rng(0).integers(0, task.words.size, [3, 8]).astype(np.int32)
    before = np.concatenate([np.full([3, 1], task.words.eos, np.int32), ids[:, :-1]], axis=1)
    with ambient.under(model.posterior.mean()):
        logits = model.network(before, training=False).numpy().astype(np.float64)
    chosen = np.take_along_axis(scipy.special.log_softmax(logits, axis=-1), ids[:, :, None], axis=-1)
    found = export_formats.perplexity(tmp_path / "model", ids)
    assert found == pytest.approx(np.exp(-chosen.mean()), rel=1e-5)


@pytest.mark.slow
def test_models_that_are_timed_are_of_one_size(tmp_path):
    """Keras's model has a weight for every mean of ours, and all read the same words."""
    loaded, words = export_throughput.exports("demo_bbb", tmp_path)
    settings = zoo.get_preset("demo_bbb").model
    keras_model = export_throughput.keras_model(
        words, settings.units, settings.embedding_units, settings.layers
    )
    ours = zoo.from_preset("demo_bbb").posterior
    assert keras_model.count_params() == sum(int(np.prod(weight.shape)) for weight in ours.weights)
    calls = export_throughput.calls(loaded, words, batch=2, samples=2)
    shapes = {name: call().shape for name, call in calls.items()}
    assert shapes.pop(export_throughput.KERAS) == (2, export_throughput.UNROLL, words)
    assert len(shapes) == 3 and set(shapes.values()) == {(2, export_throughput.UNROLL)}
