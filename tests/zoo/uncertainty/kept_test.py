"""Records that are kept: the same text by the same model is not scored again."""

import numpy as np
import pytest
from uncertainty_models import SIZE, chain, reads, scorer_of, streams_of, text_of

from zoo.filesystem.files import json_text
from zoo.uncertainty.benchmark import measure
from zoo.uncertainty.kept import KeptScorer, fingerprint
from zoo.uncertainty.predictors import FunctionPredictor
from zoo.uncertainty.streams import Stream


class Counted:
    """A chain that counts how often it is asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self, ids, state):
        self.calls += 1
        return reads(chain(samples=2))(ids, state)


@pytest.fixture()
def counted():
    return Counted()


def kept(counted, folder, identity=("a",)):
    return KeptScorer(scorer_of(FunctionPredictor(counted)), folder, identity)


def figures(scorer, streams, valid):
    return json_text(measure(scorer, streams, SIZE, valid=valid))


def test_the_same_again_is_read_and_its_figures_are_the_same(counted, tmp_path):
    folder, streams = tmp_path / "records", streams_of(text_of(chain(), 90), severities=[20])
    valid = Stream(text_of(chain(), 80, seed=1), "")
    plain = scorer_of(FunctionPredictor(Counted()))
    expected = figures(plain, streams, valid)
    assert figures(kept(counted, folder), streams, valid) == expected
    calls = counted.calls
    assert len(list(folder.iterdir())) == len(streams) + 2
    assert figures(kept(counted, folder), streams, valid) == expected
    assert counted.calls == calls


def test_another_text_or_identity_is_scored(counted, tmp_path):
    tokens = text_of(chain(), 50)
    kept(counted, tmp_path).score("test", Stream(tokens, ""))
    for stream, identity in ((Stream(tokens[::-1].copy(), ""), ("a",)), (Stream(tokens, ""), ("b",))):
        before = counted.calls
        kept(counted, tmp_path, identity).score("test", stream)
        assert counted.calls > before
    before = counted.calls
    kept(counted, tmp_path).score("test", Stream(tokens, "described otherwise"))
    assert counted.calls == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_damaged_records_are_made_again(counted, tmp_path, damage):
    stream = Stream(text_of(chain(), 50), "")
    expected = kept(counted, tmp_path).score("test", stream)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 255
    path.write_bytes({"cut": content[:-30], "flipped": bytes(flipped), "empty": b""}[damage])
    before = counted.calls
    found = kept(counted, tmp_path).score("test", stream)
    assert counted.calls > before
    np.testing.assert_array_equal(found.sample_log_probs, expected.sample_log_probs)
    assert path.read_bytes() == content


def test_sources_are_known_by_their_content(tmp_path):
    run = tmp_path / "run"
    (run / "checkpoints" / "best").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "checkpoints" / "best" / "ckpt-1.index").write_bytes(b"one")
    first = fingerprint([str(run)])
    (run / "metrics.jsonl").write_text("{}")
    assert fingerprint([str(run)]) == first == fingerprint([f"named={run}"])
    run.rename(tmp_path / "moved")
    run = tmp_path / "moved"
    assert fingerprint([str(run)]) == first
    assert fingerprint([str(run), str(run)]) != first
    (run / "checkpoints" / "best" / "ckpt-1.index").write_bytes(b"two")
    assert fingerprint([str(run)]) != first
    (tmp_path / "theirs.keras").write_bytes(b"weights")
    one = fingerprint([str(tmp_path / "theirs.keras")])
    (tmp_path / "theirs.keras").write_bytes(b"others")
    assert one != fingerprint([str(tmp_path / "theirs.keras")]) and one is not None
    assert fingerprint(["my_module:read"]) is None
    assert fingerprint([str(run), "my_module:read"]) is None
