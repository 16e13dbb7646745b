"""A `BayesianModel` saved, loaded and exported."""

import keras
import numpy as np
import pytest
import small_models
import tensorflow as tf
from small_models import assert_identical, values
from steps_by_hand import CLOSE, X, train

from tfp_bayesrnn import BayesianModel, VariationalDense


class TestSaving:
    ARGUMENTS = {"kl_weight": 0.5, "kl_warmup_steps": 4, "seed": 11}

    def model(self):
        model = small_models.regression(compiled=False, **self.ARGUMENTS)
        model.compile(keras.optimizers.Adam(0.05), clip_norm=0.5, metrics=["mae"], run_eagerly=True)
        return model

    def test_a_model_that_has_not_been_compiled(self, tmp_path):
        network = keras.Sequential([keras.Input((3,)), VariationalDense(2)])
        model = BayesianModel(network, training_rows=4)
        model.build((None, 3))
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert not loaded.compiled
        inputs = np.ones([2, 3], np.float32)
        np.testing.assert_array_equal(loaded(inputs), model(inputs))

    @pytest.mark.parametrize("steps_before", [0, 3])
    def test_a_loaded_model_predicts_and_trains_on_as_if_it_had_not_been_saved(self, tmp_path, steps_before):
        model = self.model()
        train(model, steps_before)
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
        assert again.clip_norm == 0.5
        np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
        assert train(again, 3) == train(model, 3)
        assert_identical(values(again.weights), values(model.weights))
        assert_identical(values(again.optimizer.variables), values(model.optimizer.variables))

    def test_the_configuration_comes_back(self):
        model = self.model()
        again = BayesianModel.from_config(model.get_config())
        expected = {"training_rows": 6, **self.ARGUMENTS}
        assert {name: getattr(again, name) for name in expected} == expected
        assert again.likelihood.scale == 0.5
        config = again.get_config()
        assert config == model.get_config()

    def test_an_exported_model_serves_the_posterior_mean(self, tmp_path):
        model = small_models.regression(compiled=False)
        expected = model.predict(X, verbose=0)
        model.export(tmp_path / "exported", verbose=False)
        served = tf.saved_model.load(str(tmp_path / "exported"))
        for _ in range(2):
            np.testing.assert_allclose(served.serve(X), expected, **CLOSE)
