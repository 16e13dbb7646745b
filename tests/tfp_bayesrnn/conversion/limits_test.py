"""What conversion leaves as it is, and what it refuses."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from conversion_models import (
    STEPS,
    UNITS,
    VOCABULARY,
    Subclassed,
    assert_round_trip,
    assert_same,
    called,
    converted,
    features,
    ids,
    language_model,
    scramble,
    sequential,
)

from tfp_bayesrnn import (
    BayesianModel,
    DistributionPrior,
    Dropout,
    InputError,
    NormalPrior,
    VariationalDense,
    VariationalEmbedding,
    VariationalGRU,
    VariationalLSTMCell,
    to_deterministic,
)
from tfp_bayesrnn.conversion import cloning
from tfp_bayesrnn.posterior import ambient

layers = keras.layers


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(5)


class Doubled(layers.Dense):
    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs)


class TestLayersThatStay:
    def test_with_their_weights_and_other_state(self):
        normalization = layers.Normalization()
        normalization.adapt(features())
        model = scramble(
            keras.Sequential(
                [
                    keras.Input((STEPS, 4)),
                    normalization,
                    layers.Conv1D(4, 2, padding="causal"),
                    layers.BatchNormalization(),
                    layers.SimpleRNN(UNITS, return_sequences=True),
                    layers.Lambda(lambda x, by: tf.sin(x) * by, arguments={"by": 2.0}),
                    layers.Activation(lambda x: tf.abs(x)),
                    Doubled(2),
                    layers.Dropout(0.5),
                    layers.Dense(2),
                ]
            )
        )
        generator = np.random.default_rng(2)
        for variable in model.layers[2].non_trainable_variables:
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        bayesian, plain = assert_round_trip(model, features())
        kinds = [type(layer) for layer in model.layers]
        assert [type(layer) for layer in bayesian.network.layers] == [*kinds[:-1], VariationalDense]
        assert [type(layer) for layer in plain.layers] == kinds

    def test_a_learned_vocabulary(self):
        text = layers.TextVectorization(output_sequence_length=3)
        text.adapt(["to be or not to be", "that is"])
        inputs = keras.Input((), dtype="string")
        outputs = layers.Dense(2)(layers.Embedding(text.vocabulary_size(), 4)(text(inputs)))
        model = scramble(keras.Model(inputs, outputs))
        assert_round_trip(model, tf.constant(["be that", "is to or not"]))

    def test_frozen_layers_stay_deterministic_and_frozen(self):
        model = language_model()
        model.layers[0].trainable = False
        bayesian, plain = assert_round_trip(model, ids())
        frozen = bayesian.network.layers[0]
        assert type(frozen) is layers.Embedding
        assert not frozen.trainable_variables
        assert not plain.layers[0].trainable_variables
        assert bayesian.network.layers[1].trainable_variables

    def test_frozen_parts_of_a_layer_that_stays_stay_frozen(self):
        attention = layers.MultiHeadAttention(1, 2, name="attention")
        inputs = keras.Input((None, 4))
        model = scramble(keras.Model(inputs, layers.Dense(2)(attention(inputs, inputs))))
        attention.query_dense.trainable = False
        copy = converted(model).network.get_layer("attention")
        assert [v.trainable for v in copy.weights] == [v.trainable for v in attention.weights]
        assert not all(v.trainable for v in copy.weights)

    def test_regularizers_of_layers_that_stay_count(self):
        penalty = keras.regularizers.L2(0.1)
        model = sequential(layers.Conv1D(2, 1, kernel_regularizer=penalty), layers.Dense(2))
        assert_same(converted(model).losses, model.losses)


class TestToDeterministic:
    def test_a_network_made_of_our_layers(self):
        network = keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                VariationalEmbedding(VOCABULARY, 4, mask_zero=True),
                Dropout(0.4, noise_shape=(None, 1, None), seed=3, name="drop"),
                VariationalGRU(UNITS, return_sequences=True, variational_bias=False),
                VariationalDense(2, variational_bias=True, prior=NormalPrior(0.2)),
            ]
        )
        plain = to_deterministic(network)
        assert_same(plain(ids()), network(ids()))
        kinds = [layers.Embedding, layers.Dropout, layers.GRU, layers.Dense]
        assert [type(layer) for layer in plain.layers] == kinds
        drop = plain.get_layer("drop")
        assert (drop.rate, drop.noise_shape, drop.seed) == (0.4, (None, 1, None), 3)
        zeros = plain(ids(), training=True) - plain(ids())
        assert np.abs(zeros).max() > 1e-3

    def test_it_is_the_mean_and_not_a_draw(self):
        bayesian = converted(language_model(), initial_scale=0.5)
        with ambient.under(bayesian.posterior.sample(1)):
            plain = to_deterministic(bayesian)
        assert_same(plain(ids()), bayesian(ids()))


class Stubborn(layers.Layer):
    """One whose arguments Keras cannot write down."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


class Forgetful(layers.Layer):
    """One that forgets its size."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units))

    def call(self, inputs):
        return keras.ops.matmul(inputs, self.kernel)[..., :2]

    def get_config(self):
        return {"name": self.name}


REFUSED = {
    "constraint": (
        lambda: sequential(layers.LSTM(UNITS, recurrent_constraint="max_norm", name="it")),
        "layer 'it'.*a variational LSTM has no recurrent_constraint",
    ),
    "embeddings constraint": (
        lambda: sequential(
            layers.Embedding(4, 2, embeddings_constraint="non_neg", name="it"), shape=(None,), dtype="int32"
        ),
        "layer 'it'.*a variational Embedding has no embeddings_constraint",
    ),
    "lora": (
        lambda: sequential(layers.Dense(2, lora_rank=1, name="it")),
        "layer 'it'.*a variational Dense has no lora_rank, which is 1",
    ),
    "some weights frozen": (
        lambda: frozen_bias(sequential(layers.Dense(2, name="it"))),
        "layer 'it'.*some of its weights",
    ),
    "not finite": (
        lambda: poisoned(sequential(layers.Dense(2, name="it"))),
        "layer 'it'.*bias is not finite",
    ),
    "subclassed": (lambda: called(Subclassed(), features()), "model 'own'.*Subclassed"),
    "not built": (
        lambda: keras.Sequential([layers.Dense(2)], name="early"),
        "model 'early' has no weights yet",
    ),
    "nothing to convert": (
        lambda: sequential(layers.Conv1D(2, 1)),
        "has nothing to convert",
    ),
    "all frozen": (
        lambda: frozen(sequential(layers.Dense(2))),
        "has nothing to convert",
    ),
    "no get_config": (
        lambda: sequential(Stubborn(keras.ops.abs, name="it"), layers.Dense(2)),
        "layer 'it' cannot be copied: Stubborn.get_config",
    ),
    "wrong get_config": (
        lambda: sequential(Forgetful(3, name="it"), layers.Dense(2)),
        "layer 'it' cannot be copied: a Forgetful",
    ),
    "softmax": (
        lambda: sequential(layers.Dense(2, activation="softmax", name="it")),
        "the softmax of 'it'",
    ),
    "softmax layer": (
        lambda: sequential(layers.Dense(2), layers.Softmax(name="it")),
        "the softmax of 'it'",
    ),
    "sigmoid deep inside": (
        lambda: sequential(
            keras.Sequential([keras.Input((None, 4)), layers.TimeDistributed(layers.Dense(2, "sigmoid"))])
        ),
        "the sigmoid of 'time_distributed",
    ),
}


def frozen_bias(model):
    model.layers[0].bias.trainable = False
    return model


def poisoned(model):
    model.layers[0].bias.assign([math.nan, 0.0])
    return model


def frozen(model):
    model.trainable = False
    return model


class TestErrors:
    @pytest.mark.parametrize("case", REFUSED)
    def test_what_is_refused(self, case):
        make, message = REFUSED[case]
        model = make()
        with pytest.raises(InputError, match=message):
            converted(model)

    def test_quantized_layers(self):
        model = sequential(layers.Dense(2, name="it"))
        model.quantize("int8")
        with pytest.raises(InputError, match=r"layer 'it'.*has no quantization_mode, which is 'int8'"):
            converted(model)

    def test_regularizers_of_weights_are_left_out_with_a_warning(self):
        model = sequential(layers.Dense(2, kernel_regularizer="l2", name="it"))
        with pytest.warns(UserWarning, match="layer 'it': its kernel_regularizer is left out"):
            bayesian = converted(model)
        assert bayesian.losses == []
        assert_same(bayesian(features()), model(features()))

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"prior": "flat"}, "prior must be 'zero', 'empirical' or a Prior. Received: prior='flat'"),
            ({"prior": None}, "prior must be"),
            ({"initial_scale": 0.1, "relative_scale": 0.1}, "either initial_scale or relative_scale"),
            ({"relative_scale": 0.0}, "relative_scale must be positive"),
            ({"relative_scale": math.nan}, "relative_scale must be positive"),
            ({"initial_scale": 1e-6}, "initial_scale must be"),
            ({"initial_scale": (0.2, 0.1)}, "initial_scale must be"),
            ({"initial_scale": (0.1, 0.2, 0.3)}, "initial_scale must be"),
            ({"training_rows": 0}, "training_rows must be positive"),
            ({"prior": DistributionPrior(lambda shape: None)}, "A prior factory must return"),
        ],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            converted(language_model(), **arguments)

    @pytest.mark.parametrize("convert", [to_deterministic, converted])
    def test_what_is_no_model(self, convert):
        with pytest.raises(ValueError, match=r"model must be .* Received: model='model'"):
            convert("model")

    def test_a_bayesian_model_is_not_converted_again(self):
        with pytest.raises(ValueError, match=r"must be a deterministic keras.Model"):
            converted(converted(language_model()))

    def test_layers_of_ours_that_keras_has_not(self):
        cell = keras.Sequential([keras.Input((None, 4)), layers.RNN(VariationalLSTMCell(UNITS), name="it")])
        with pytest.raises(InputError, match=r"layer 'it' has no counterpart.*VariationalLSTMCell"):
            to_deterministic(cell)
        attending = keras.Sequential(
            [keras.Input((None,), dtype="int32"), VariationalEmbedding(4, 2, attend_bias=True, name="it")]
        )
        with pytest.raises(InputError, match=r"layer 'it' has no counterpart.*attend_bias"):
            to_deterministic(attending)

    def test_subclassed_networks_do_not_come_back(self):
        model = BayesianModel(called(Subclassed(), features()))
        with pytest.raises(InputError, match="model 'own' cannot be converted"):
            to_deterministic(model)

    def test_a_network_is_what_has_no_call_of_its_own(self):
        assert cloning.is_network(language_model())
        assert not cloning.is_network(Subclassed())
        assert not cloning.is_network(layers.Dense(2))
