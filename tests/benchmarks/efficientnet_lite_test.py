"""The EfficientNet-Lite of plain Keras layers: its sizes, and the check of its features against PyTorch's."""

import numpy as np
import pytest

from benchmarks import efficientnet_lite
from tfp_bayesrnn.errors import InputError


def test_lite0_has_the_published_weights_without_the_classes():
    network = efficientnet_lite.build(efficientnet_lite.VARIANTS["lite0"], "lite0")
    # 4,694,073 numbers in the published file, of which 1000 * (1280 + 1) are of the classes, and 49 batch
    # normalisations have a counter of PyTorch's.
    assert network.count_params() == 4_694_073 - 1_281_000 - 49
    assert network.output_shape == (None, 7, 7, 1280)


def test_channels_are_multiples_of_eight_that_keep_nine_tenths():
    found = [efficientnet_lite._rounded(1.1 * stage.channels) for stage in efficientnet_lite.STAGES]
    assert found == [16, 24, 48, 88, 120, 208, 352]  # Those of the published lite2.


def test_features_that_are_not_pytorchs_are_refused(capsys):
    features = np.zeros([1, 2, 2, 3], np.float32)
    weight = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], np.float32)
    bias = np.array([0.1, 0.4, 0.2, 0.3], np.float32)
    given = {":features": features, "_fc.weight": weight, "_fc.bias": bias, ":logits": bias[np.newaxis]}
    assert efficientnet_lite.check(features, given).tolist() == [[1, 3, 2]]
    with pytest.raises(InputError, match=r"differ from PyTorch's by 2\.0e-04: accepted 1e-04"):
        efficientnet_lite.check(features + 2e-4, given)
    with pytest.raises(InputError, match=r"classes \[1\] are not PyTorch's, \[3\]"):
        efficientnet_lite.check(features, {**given, ":logits": weight[3:] @ weight.T})
