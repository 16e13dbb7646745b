"""The benchmarks: what they compute from gradients, metrics of runs and timings; peers and their protocol."""

import json
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import gradient_variance, peers, sharpening, speed, timing
from benchmarks.kept import Kept
from tfp_bayesrnn import noise


def test_moments_of_a_gradient_of_known_distribution():
    """Two weights' gradients, N(3, 2^2) in 600 elements and N(0, 0.5^2) in 400."""

    def gradients(batch, state, seed, kl_weight):
        del batch, state, kl_weight
        return [3.0 + 2.0 * noise.normal([20, 30], seed), 0.5 * noise.normal([400], noise.derive(seed, 1))]

    draws = 50
    found = gradient_variance.moments(gradients, None, None, 1.0, draws)
    expected = 600 * 2.0**2 + 400 * 0.5**2
    # Standard error of a variance over n draws and m elements: sqrt(2 / (n m)) of each element's; 4 of them.
    assert found.variance == pytest.approx(expected, rel=4 * np.sqrt(2 / (600 * (draws - 1))))
    # The squared mean of 600 elements: its noise is 2 * 3 * 2 / sqrt(draws) in each, independent.
    assert found.signal == pytest.approx(600 * 9.0, abs=4 * 2 * 3.0 * 2.0 * np.sqrt(600 / draws))


def test_a_gradient_without_noise_has_no_variance():
    found = gradient_variance.moments(lambda *_: [tf.fill([10], 2.0)], None, None, 1.0, 3)
    assert found == (pytest.approx(0.0, abs=1e-4), pytest.approx(40.0))


def test_perplexities_by_epoch_of_as_many_epochs_as_both_runs_have():
    def run(*perplexities):
        lines = [
            {"epoch": epoch, "perplexity": perplexity, "train_kl_sharpening": 0.0025}
            for epoch, perplexity in enumerate(perplexities, start=1)
        ]
        return types.SimpleNamespace(read_metrics=lambda: lines)

    table = sharpening.by_epoch({"bbb": run(200.0, 100.0, 90.0), "sigma0 0.02": run(190.0, 101.0)})
    head, *lines = table.splitlines()
    assert head.split() == ["epoch", "bbb", "sigma0", "0.02"]
    assert [line.split() for line in lines] == [
        ["1", "200.00", "190.00", "(-5.00", "%,", "KL", "0.0025/token)"],
        ["2", "100.00", "101.00", "(+1.00", "%,", "KL", "0.0025/token)"],
    ]


def test_differences_are_paired_by_seed():
    def pair(plain, sharpened):
        return {"bbb": {"test": {"perplexity": plain}}, "sigma0 1": {"test": {"perplexity": sharpened}}}

    table = sharpening.paired([pair(20.0, 19.0), pair(30.0, 28.0), pair(40.0, 37.0)])
    assert "bbb          30.000 ± 5.774" in table
    # Differences 1, 2, 3: standard deviation 1, so 1 / sqrt(3); unpaired it would be ten times that.
    assert "difference by seed -2.000 ± 0.577" in table


def test_contestants_take_turns_and_warming_up_is_not_counted():
    order = []

    def meter(name, figures):
        figures = iter(figures)

        def take(calls):
            order.append((name, calls))
            return next(figures)

        return take

    meters = {"a": meter("a", [9.0, 9.0, 1.0, 9.0, 4.0]), "b": meter("b", [8.0, 8.0, 2.0, 8.0, 2.0])}
    figures = timing.measure(meters, repetitions=2, calls=3)
    once, repetition = [("a", 1), ("b", 1)], [("a", 1), ("a", 3), ("b", 1), ("b", 3)]
    assert order == once + 2 * repetition
    assert figures.values == {"a": [1.0, 4.0], "b": [2.0, 2.0]}
    # Repetition by repetition, ascending; 1 / 2 and 4 / 2.
    assert figures.ratios("a", "b") == [0.5, 2.0]
    assert figures.ratios("a", None) == [1.0, 4.0]


def test_a_peer_that_fails_in_the_middle_leaves_the_others_their_figures():
    left = [1.0, 1.0]

    def failing(calls):
        if not left:
            raise timing.PeerError("failed: it ended")
        return left.pop()

    figures = timing.measure({"ours": lambda _: 1.0, "theirs": failing}, repetitions=3, settle=False)
    assert figures.values == {"ours": [1.0, 1.0, 1.0]}
    assert figures.problem("ours", "theirs") == "failed: it ended"
    assert figures.problem("ours", None) is None


def fake_figures():
    values = {"deterministic": [1.0, 3.0, 2.0], "keras.layers.LSTM": [4.0, 4.0, 4.0]}
    return timing.Figures(values, {"BLiTZ": "not installed: ModuleNotFoundError: blitz"})


def test_the_table_has_every_row_whether_measured_or_not():
    rows = [
        speed.Row("layer", "deterministic", "keras.layers.LSTM", 0.6),
        speed.Row("layer", "deterministic", "keras.layers.LSTM", 0.6, at_least=True),
        speed.Row("layer", "deterministic", "BLiTZ", 0.6),
        speed.Row("layer", "deterministic", None),
    ]
    records = [speed.row_record(row, fake_figures()) for row in rows]
    head, _, *lines, problem = speed.table(json.loads(json.dumps(records))).splitlines()
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        "work",
        "against",
        "ratio (min - median - max)",
        "goal",
        "reached",
    ]
    work = "LSTM layer, 650 units: deterministic"
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines] == [
        [work, "keras.layers.LSTM", "0.25 - 0.50 - 0.75", "<= 0.60", "yes"],
        [work, "keras.layers.LSTM", "0.25 - 0.50 - 0.75", ">= 0.60", "no"],
        [work, "BLiTZ", "not installed", "<= 0.60", ""],
        [work, "", "1.00 - 2.00 - 3.00 GiB", "", ""],
    ]
    assert problem == "BLiTZ: not installed: ModuleNotFoundError: blitz"


def test_every_peer_has_a_row_and_every_group_one():
    assert {row.against for row in speed.ROWS} >= set(peers.PEERS)
    assert {row.group for row in speed.ROWS} == set(speed.GROUPS)
    assert len(set(speed.ROWS)) == len(speed.ROWS)


def test_the_command_writes_what_it_measured(tmp_path, monkeypatch, capsys):
    figures = timing.Figures({"training PTB medium, BBB, peak": [1.0]})
    for name in ("evaluation, 10 samples, peak", "evaluation, 2 samples, peak"):
        figures.values[name] = [0.9]
    figures.values["training PTB medium, BBB, imports"] = [0.5]
    monkeypatch.setattr(speed, "measure_group", lambda group, effort, peers: figures)
    output = tmp_path / "speed.json"
    speed.main(["--quick", "--only=memory", f"--output={output}"])
    assert "resident memory: training PTB medium, BBB, peak" in capsys.readouterr().out
    found = json.loads(output.read_text())
    (rows,) = (piece["rows"] for piece in found["pieces"].values())
    assert [row["median"] for row in rows] == [1.0, 1.0, 0.5]
    assert [row["reached"] for row in rows] == [True, True, None]
    assert found["setup"]["versions"]["tensorflow"] == tf.__version__
    assert found["pieces"]["memory"]["peers"] == {}
    with pytest.raises(SystemExit):
        speed.main(["--only=memroy"])
    assert "memroy; choose from layer, medium" in capsys.readouterr().err


def test_native_bfloat16_is_read_from_the_flags_of_the_processor():
    native = speed.processor("model name\t: EPYC\nflags\t\t: fpu avx512_bf16 sse\n\n")
    assert (native["processor"], native["bfloat16_flags"]) == ("EPYC", ["avx512_bf16"])
    assert native["native_bfloat16"] and not speed.processor("flags\t\t: fpu sse\n")["native_bfloat16"]


@pytest.mark.parametrize(
    ("flags", "widest"),
    [
        ("flags: fpu avx avx2 avx512f", "AVX-512"),
        ("flags: avx2 avx", "AVX2"),
        ("Features: fp asimd", "NEON"),
        ("flags: fpu sse", None),
    ],
)
def test_the_widest_vectors_are_read_from_the_flags_of_the_processor(flags, widest):
    assert speed.processor(flags)["instruction_set"] == widest


class TestKept:
    def test_the_same_command_again_measures_what_is_missing(self, tmp_path, capsys):
        path, measured = str(tmp_path / "figures.json"), []

        def run(names, fails=None):
            kept = Kept(path, {"repetitions": (3, 4)})

            def measure(name):
                if name == fails:
                    raise RuntimeError
                measured.append(name)
                return {"figure": (name, 1.5)}

            return [kept.piece(name, lambda name=name: measure(name)) for name in names]

        with pytest.raises(RuntimeError):
            run(["a", "b", "c"], fails="b")
        assert list(json.loads((tmp_path / "figures.json").read_text())["pieces"]) == ["a"]
        found = run(["a", "b", "c"])
        assert measured == ["a", "b", "c"] and "a: measured before" in capsys.readouterr().out
        assert found == [{"figure": [name, 1.5]} for name in measured]
        assert json.loads((tmp_path / "figures.json").read_text())["pieces"]["c"] == found[2]

    def test_figures_of_another_setup_are_not_mixed_in(self, tmp_path):
        path = str(tmp_path / "figures.json")
        Kept(path, {"processor": "a", "calls": 3}).piece("x", lambda: 1.0)
        with pytest.raises(SystemExit, match=r"another setup \(calls, processor differ\)"):
            Kept(path, {"processor": "b", "calls": 4})
        (tmp_path / "figures.json").write_text("[1]")
        with pytest.raises(SystemExit, match="is no file of this benchmark"):
            Kept(path, {"processor": "a"})

    def test_without_a_file_pieces_are_measured(self):
        assert Kept(None, {}).piece("x", lambda: (1, 2)) == [1, 2]


FAKE_PEER = """
import json, sys, time
for line in sys.stdin:
    if line == "versions\\n":
        print(json.dumps({"fake": "1.0"}), flush=True)
        continue
    _, name, calls = line.split()
    if name == "crashing":
        sys.exit(1)
    if name == "hanging":
        time.sleep(60)
    answers = {"quick": {"seconds": 0.5 * int(calls)}, "absent": {"missing": "no fake"}}
    print(json.dumps(answers.get(name, {"error": "oh"})), flush=True)
"""


@pytest.fixture
def fake_peer(tmp_path):
    """A function from a name to a peer that a fake process times."""
    program, made = tmp_path / "fake.py", []
    program.write_text(FAKE_PEER)

    def make(name):
        made.append(timing.Peer(sys.executable, name, program, patience=1.0 if name == "hanging" else 30.0))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


def test_peers_answer_or_say_why_not(fake_peer):
    meters = {name: fake_peer(name) for name in ("quick", "absent", "broken", "crashing", "hanging")}
    meters["nowhere"] = timing.Peer("/no/such/python", "quick")
    meters["unnamed"] = timing.Peer(None, "quick")
    figures = timing.measure(meters, repetitions=2, calls=3)
    assert figures.values == {"quick": [1.5, 1.5]}
    assert figures.problems == {
        "absent": "not installed: no fake",
        "broken": "failed: oh",
        "crashing": "failed: its process ended (JSONDecodeError)",
        "hanging": "failed: no answer within 1 s",
        "nowhere": "not installed: no Python at /no/such/python",
        "unnamed": "not installed: no --peers=PYTHON given",
    }
    assert timing.versions([meters["unnamed"], meters["quick"]]) == {"fake": "1.0"}


def test_the_peers_program_answers_each_command_once(monkeypatch):
    def unavailable():
        raise ImportError("no such library")

    def printing():
        return lambda: print("not an answer")

    monkeypatch.setattr(peers, "PEERS", {"absent": unavailable, "quick": printing})
    made = {}
    assert peers.answer(["time", "absent", "1"], made) == {"missing": "ImportError: no such library"}
    assert peers.answer(["time", "quick", "2"], made)["seconds"] < 1.0
    assert list(made) == ["quick"]
    for command in (["time", "other", "1"], ["stop", "quick", "1"], ["time"], []):
        assert list(peers.answer(command, made)) == ["error"]
    assert peers.answer(["versions"], made)["tensorflow"] == tf.__version__


def test_the_peers_program_runs_without_this_project():
    with timing.Peer(sys.executable, "no such peer") as peer:
        assert "tensorflow" in peer.ask("versions")
        with pytest.raises(timing.PeerError, match="failed: no such command: time no such peer 1"):
            peer(1)
