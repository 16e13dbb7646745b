"""What the network of a `BayesianModel` may consist of."""

import keras
import numpy as np
import pytest
import small_models
from small_models import PRIOR, values
from steps_by_hand import CLOSE, X, Y, free_energy_of, train

from tfp_bayesrnn import BayesianModel, NormalLikelihood, VariationalDense


class TestNetworks:
    """What the network may consist of."""

    def test_non_trainable_variables_are_updated(self):
        normalization = keras.layers.BatchNormalization(momentum=0.9)
        model = small_models.regression([normalization, VariationalDense(1)])
        train(model)
        np.testing.assert_allclose(normalization.moving_mean, 0.1 * X.mean(axis=0), **CLOSE)
        model.evaluate(X, Y, verbose=0)
        np.testing.assert_allclose(normalization.moving_mean, 0.1 * X.mean(axis=0), **CLOSE)

    def test_stock_layers_are_trained_beside_variational_ones(self):
        keras.utils.set_random_seed(1)
        network = keras.Sequential(
            [
                keras.layers.Embedding(small_models.VOCABULARY, 2),
                keras.layers.LSTM(2, return_sequences=True),
                keras.layers.Dropout(0.1),
                VariationalDense(small_models.VOCABULARY),
            ]
        )
        model = BayesianModel(network, training_rows=6)
        model.compile(keras.optimizers.SGD(0.5), clip_norm=5.0, run_eagerly=True)
        (data,) = small_models.windows(small_models.tokens(length=small_models.STEPS))
        model.train_on_batch(*data)
        before = values(model.trainable_variables)
        model.train_on_batch(*data)
        for old, new, variable in zip(
            before, model.trainable_variables, model.trainable_variables, strict=True
        ):
            assert np.any(old != new.numpy()), variable.path

    def test_a_functional_network_with_a_dictionary_of_inputs(self, tmp_path):
        inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((1,), name="b")}
        both = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
        network = keras.Model(inputs, VariationalDense(1, prior=PRIOR)(both))
        model = BayesianModel(
            network, training_rows=6, likelihood=NormalLikelihood(0.5), kl_warmup_steps=0, seed=3
        )
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        x = {"a": X[:, :2], "b": X[:, 2:]}
        expected, _, _ = free_energy_of(model, x, Y, model.posterior.sample(model.step_seed()))
        np.testing.assert_allclose(train(model, x=x)[0]["free_energy"], expected, **CLOSE)
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
        np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))

    def test_a_subclassed_network_is_built_by_the_first_step(self):
        class Network(keras.Model):
            def __init__(self):
                super().__init__()
                self.hidden = VariationalDense(2, activation="tanh", prior=PRIOR)
                self.out = VariationalDense(1, prior=PRIOR)

            def build(self, input_shape):
                self.hidden.build(input_shape)
                self.out.build((*input_shape[:-1], 2))

            def call(self, inputs, training=False):
                return self.out(self.hidden(inputs, training=training), training=training)

        model = BayesianModel(Network(), training_rows=6, likelihood=NormalLikelihood(0.5))
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        history = model.fit(X, Y, batch_size=6, epochs=2, verbose=0).history
        assert len(model.trainable_variables) == 6 and history["kl"][0] > 0.0

    @pytest.mark.parametrize("run_eagerly", [True, False])
    def test_an_unbuilt_sequential_draws_in_its_very_first_step(self, run_eagerly):
        """Keras leaves the building to the first step, while that is traced."""
        model = BayesianModel(
            keras.Sequential([VariationalDense(1, prior=PRIOR)]),
            training_rows=6,
            likelihood=NormalLikelihood(0.5),
            kl_warmup_steps=0,
            seed=3,
        )
        model.compile(keras.optimizers.SGD(0.0), jit_compile=False, run_eagerly=run_eagerly)
        history = model.fit(X, Y, batch_size=6, shuffle=False, verbose=0).history
        model.optimizer.iterations.assign(0)
        loss, _, kl = free_energy_of(model, X, Y, model.posterior.sample(model.step_seed()))
        np.testing.assert_allclose([*history["free_energy"], *history["kl"]], [loss, kl], **CLOSE)

    def test_another_model_is_refused(self):
        """Its likelihood and its posterior would be two."""
        model = BayesianModel(keras.Sequential([VariationalDense(1)]), training_rows=6)
        with pytest.raises(ValueError, match=r"no BayesianModel. Received: network=<BayesianModel"):
            BayesianModel(model, training_rows=6)
