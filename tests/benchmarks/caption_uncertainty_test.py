"""`benchmarks.caption_uncertainty`: images of another kind against those of the test split."""

import numpy as np
import pytest
from captioning_models import MAX_WORDS, SIZE, VOCABULARY, captioning_model

from benchmarks import caption_uncertainty, shapes_truth
from zoo.captioning.caption_search import Captioner
from zoo.data.shapes import builtin_shapes, held_out, scenes


def test_other_images():
    noise, blank = caption_uncertainty.noise_images(3, 8), caption_uncertainty.blank_images(3, 8)
    assert noise.shape == blank.shape == (3, 8, 8, 3) and noise.dtype == blank.dtype == np.uint8
    assert np.ptp(blank, axis=(1, 2)).max() == 0 and np.ptp(noise, axis=(1, 2)).min() > 100
    assert len(np.unique(blank[:, 0, 0], axis=0)) == 3


def test_photos(tmp_path, capsys):
    images = builtin_shapes()["test"].images
    for place in range(2):
        (tmp_path / f"{place}.png").write_bytes(images.read(place))
    (tmp_path / "cut.png").write_bytes(images.read(2)[:60])
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    assert caption_uncertainty.photos(paths, 16).shape == (2, 16, 16, 3)
    assert "cut.png" in capsys.readouterr().out


@pytest.mark.slow
def test_captions_do_not_depend_on_minibatches():
    images = caption_uncertainty.noise_images(5, SIZE)
    captioner = Captioner(captioning_model(), VOCABULARY, MAX_WORDS, beam=1)
    whole = caption_uncertainty.caption_images(captioner, images, batch=5)
    parts = caption_uncertainty.caption_images(captioner, images, batch=2)
    assert whole.words == parts.words and len(whole.words) == 5
    np.testing.assert_allclose(whole.log_probs, parts.log_probs, rtol=1e-4)


def test_the_table():
    row = {"images": "noise", "count": 3, "weights": "mean", "signal": "mutual_information", "auroc": 0.75}
    row |= {"auroc_95": [0.5, 1.0], "mean": 1.5, "mean_of_test": 0.25}
    assert caption_uncertainty.table([row]).splitlines()[-1] == (
        "| 3 noise | mean | mutual information | 1.500 | 0.250 | 0.750 (0.500 to 1.000) |"
    )


def test_references_are_true_and_those_of_other_drawings_hardly_ever():
    shown, references = scenes("test"), builtin_shapes()["test"].references
    own = shapes_truth.shares_of_truth(shown, [captions[0] for captions in references])
    assert own == dict.fromkeys(("all", *shapes_truth.KINDS), 1.0)
    others = [references[place - 4][1] for place in range(len(shown))]
    assert 0.0 <= shapes_truth.shares_of_truth(shown, others)["all"] < 0.05
    some = [captions[0] if held_out(one) else () for one, captions in zip(shown, references, strict=True)]
    assert list(shapes_truth.shares_of_truth(shown, some).values()) == [0.5, 0.0, 1.0, 1.0]


def test_drawings_as_files(tmp_path):
    shapes_truth.write_drawings(str(tmp_path / "drawings"), 3)
    images = builtin_shapes()["test"].images
    found = sorted((tmp_path / "drawings").iterdir())
    assert [path.read_bytes() for path in found] == [images.read(place) for place in range(3)]


def test_the_table_of_truth():
    row = {"all": 0.5, "seen in training": 0.75, "new colour of a shape": 0.25, "new relation": 0.0}
    assert shapes_truth.table({"shapes_demo_bbb": row}).splitlines()[2] == (
        "| `shapes_demo_bbb` | 50.0 | 75.0 | 25.0 | 0.0 |"
    )
