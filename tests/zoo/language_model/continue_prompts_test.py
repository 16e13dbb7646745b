"""The command `generate`: what it prints and writes, its colours, and how bad input is answered."""

import io
import math
import re
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from generated_text import VOCABULARY, blocks, made, records, with_samples

from tfp_bayesrnn.errors import InputError
from zoo.data.vocabulary import Vocabulary
from zoo.drawing.scale import highest_for
from zoo.language_model.continuation_text import as_text_block
from zoo.language_model.continuations import Generator
from zoo.language_model.continue_prompts import _prompts, continue_prompts
from zoo.language_model.model import restorable
from zoo.runs.restored import restored
from zoo.runs.workdir import Workdir
from zoo.terminal import colours

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir, its configuration and its model."""
    path = tmp_path_factory.mktemp("run")
    return path, *made(path)


@pytest.mark.parametrize("samples", [0, 3])
def test_texts_and_figures_are_those_of_the_best_checkpoint(run, capsys, samples):
    path, config, model = run
    continue_prompts(
        with_samples(config, samples), path, ["the cat", ""], continuations=2, max_words=9, seed=4
    )
    heading, found = blocks(capsys.readouterr().out)
    weights = "average over 3 samples" if samples else "posterior mean"
    assert heading[0] == (
        f"demo_bbb (Bayes by Backprop), best checkpoint: step 12; {weights}, sampled, seed 4, no <unk>"
    )
    assert ("mutual information needs" in heading[1]) == (not samples)
    generator = Generator(model, VOCABULARY, 9, samples=samples, seed=4, sampling={}, forbidden=["<unk>"])
    assert [prompt for prompt, _ in found] == ["the cat", "<eos>"]
    for number, (prompt, (_, continuations)) in enumerate(zip(["the cat", ""], found, strict=True)):
        [expected] = generator.generate([prompt], 2, stream=number)
        for place, ((lines, figures), wanted) in enumerate(zip(continuations, expected, strict=True), 1):
            text = "\n".join(line[5:].rstrip() for line in lines)
            shown = wanted.text.replace("\x1b[2J", "?[2J")
            assert text.split("\n") == shown.removesuffix("\n").split("\n")
            assert lines[0].startswith(f"  {place}  ")
            assert figures["log-probability"] == pytest.approx(wanted.log_probs.mean(), abs=6e-4)
            assert figures["entropy"] == pytest.approx(wanted.entropies.mean(), abs=6e-4)
            assert ("mutual information" in figures) == bool(samples)
            if samples:
                value = wanted.mutual_information.mean()
                assert figures["mutual information"] == pytest.approx(value, abs=6e-5)
                assert value > 0.001


def test_without_a_prompt_a_sentence_begins(run, capsys):
    path, config, _ = run
    continue_prompts(config, path, max_words=3)
    first = capsys.readouterr().out
    continue_prompts(config, path, [""], max_words=3)
    assert capsys.readouterr().out == first
    assert blocks(first)[1][0][0] == "<eos>"


@pytest.mark.slow
def test_the_seed_is_the_runs_unless_given(run, capsys):
    path, config, _ = run

    def text(**arguments):
        continue_prompts(config, path, ["the", "the"], max_words=8, **arguments)
        return blocks(capsys.readouterr().out)[1]

    assert text() == text(seed=config.seed)
    assert text() != text(seed=5)
    once, again = text()
    assert once != again  # The same prompt twice is answered twice.


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"draw_per_continuation": True}], ids=["mean", "draws"])
def test_json_lines_have_every_figure_of_every_word(run, capsys, tmp_path, arguments):
    path, config, model = run
    output = tmp_path / "out.jsonl"
    settings = {"continuations": 2, "max_words": 5, "end_at_eos": True, "seed": 1, **arguments}
    continue_prompts(config, path, ["the dog", "cat"], output=output, **settings)
    out = capsys.readouterr().out
    assert len(blocks(out)[1]) == 2
    found = records(output.read_text(encoding="utf-8"))
    continue_prompts(config, path, ["the dog", "cat"], output="-", **settings)
    assert records(capsys.readouterr().out) == found
    generator = Generator(
        model,
        VOCABULARY,
        5,
        draw_per_continuation=bool(arguments),
        seed=1,
        sampling={},
        end_at_eos=True,
        forbidden=["<unk>"],
    )
    assert [(one["prompt"], one["continuation"]) for one in found] == [
        ("the dog", 0),
        ("the dog", 1),
        ("cat", 0),
        ("cat", 1),
    ]
    wanted = [
        continuation
        for number, prompt in enumerate([[0, 1], [3]])
        for continuation in generator.generate([prompt], 2, stream=number)[0]
    ]
    for record, one in zip(found, wanted, strict=True):
        assert record["weights"].startswith("a draw for each" if arguments else "posterior mean")
        assert (record["text"], record["finished"]) == (one.text, one.finished)
        assert tuple(record["prompt_words"]) == one.prompt
        assert tuple(word["word"] for word in record["words"]) == one.words
        assert record["log_prob"] == pytest.approx(float(one.log_probs.sum()), rel=1e-6)
        columns = {
            "log_prob": one.log_probs,
            "own_log_prob": one.own_log_probs,
            "entropy": one.entropies,
            "mutual_information": one.mutual_information,
        }
        for name, values in columns.items():
            np.testing.assert_allclose([word[name] for word in record["words"]], values, rtol=1e-5, atol=1e-6)
    own = [[word["own_log_prob"] - word["log_prob"] for word in one["words"]] for one in found]
    assert (np.max(np.abs(np.concatenate(own))) > 0.01) == bool(arguments)


def stdin(content):
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")


def test_a_dash_stands_for_the_lines_of_standard_input(run, capsys, monkeypatch):
    path, config, _ = run
    monkeypatch.setattr(sys, "stdin", stdin(b"\xef\xbb\xbfcat sat\r\n\non\x0cthe"))
    continue_prompts(config, path, ["the", "-", "mat"], max_words=2)
    assert [prompt for prompt, _ in blocks(capsys.readouterr().out)[1]] == [
        "the",
        "cat sat",
        "<eos>",
        "on the",
        "mat",
    ]
    monkeypatch.setattr(sys, "stdin", stdin(b"caf\xe9\n"))
    with pytest.raises(InputError, match="standard input, line 1: byte 0xe9 is not UTF-8 text; accepted"):
        continue_prompts(config, path, ["-"], max_words=2)


def test_standard_input_that_is_closed_is_reported(run, monkeypatch):
    path, config, _ = run
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="--prompt=- reads standard input, which is closed"):
        continue_prompts(config, path, ["-"], max_words=2)


def test_prompts_are_utf_8_whatever_the_terminal_is():
    """Where the encoding is ASCII, Python hands over the bytes of other letters as surrogates."""
    assert list(_prompts(["caf\udcc3\udca9", "café", "\ud800", "the"])) == ["café", "café", "\ud800", "the"]
    with pytest.raises(InputError, match=r"--prompt='caf\\udce9' is not UTF-8 text \(byte 0xe9\)"):
        list(_prompts(["caf\udce9"]))


def test_each_line_of_standard_input_is_answered_before_the_next_is_read(run, capsys, monkeypatch):
    path, config, _ = run
    answered = []

    def lines():
        for _ in range(2):
            yield "the\n"
            answered.append(len(blocks(capsys.readouterr().out)[1]) if not answered else 1)

    monkeypatch.setattr(sys, "stdin", lines())
    continue_prompts(config, path, ["-"], max_words=2, color="never")
    assert answered == [1, 1]


# Colours


@pytest.mark.slow(but=["0"])
@pytest.mark.parametrize("samples", [0, 2])
def test_words_are_shaded_by_entropy_or_with_draws_by_mutual_information(run, capsys, samples):
    path, config, model = run
    config = with_samples(config, samples)
    continue_prompts(config, path, ["the"], max_words=12, color="always")
    coloured = capsys.readouterr().out
    continue_prompts(config, path, ["the"], max_words=12, color="never")
    plain = capsys.readouterr().out
    assert "\033" not in plain
    heading, [(_, [(lines, _)])] = blocks(coloured)
    measure = "mutual information" if samples else "entropy"
    assert heading[-1] == f"words are shaded by their {measure}, on the scale that stands above them"
    generator = Generator(model, VOCABULARY, 12, samples=samples, sampling={}, forbidden=["<unk>"])
    [[one]] = generator.generate(["the"])
    values = one.mutual_information if samples else one.entropies
    highest = highest_for(values)
    assert np.quantile(values, 0.95) <= highest < 2.5 * np.max(values)  # However little it is.
    scale = f"{measure}, nats: {colours.legend(highest)}"
    assert coloured.count(scale) == 1
    lines = [line for line in lines if scale not in line]
    expected = [
        colours.shaded({"<eos>": " ", "\x1b[2J": "?[2J"}.get(word, word), float(value), highest)
        for word, value in zip(one.words, values, strict=True)
    ]
    assert re.findall(r"\033\[48.*?\033\[0m", "\n".join(lines)) == expected
    assert len(lines) == 1 + one.words[:-1].count("<eos>")


def test_texts_of_nothing_but_an_end_say_so(run):
    _, _, model = run
    [found] = Generator(model, VOCABULARY, 1, sampling={}, end_at_eos=True).generate([[0]], 40)
    ended = next(one for one in found if one.finished)
    lines = as_text_block([ended], "entropy", False, False).split("\n")
    assert lines[1] == "  1  (no words)"


# Bad input


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"decode": "best"}, "--decode=best is not accepted: it must be one of sample, greedy, beam"),
        ({"temperature": 0.0}, "--temperature=0.0 is not accepted: it must be a number above 0"),
        ({"temperature": math.nan}, "--temperature=nan is not accepted"),
        (
            {"temperature": 1e-320},
            "--temperature=1e-320 is not accepted: it must be a number above 0, at least",
        ),
        (
            {"temperature": 1e300},
            "--temperature=1e+300 is not accepted: it must be a number above 0, at least",
        ),
        ({"temperature": math.inf}, "--temperature=inf is not accepted"),
        ({"top_k": -1}, "--top_k=-1 is not accepted: it must be a whole number, at least 0"),
        ({"top_p": 0.0}, "--top_p=0.0 is not accepted: it must be a number above 0, at most 1"),
        ({"top_p": 1.5}, "--top_p=1.5 is not accepted"),
        ({"decode": "beam", "beam": 0}, "--beam=0 is not accepted: it must be a whole number, at least 1"),
        (
            {"decode": "beam", "beam": 8},
            "--beam=8 is not accepted: it must be at most 7, the number of words",
        ),
        ({"beam": 2}, "--beam is for --decode=beam, not for --decode=sample"),
        ({"decode": "greedy", "top_p": 0.5}, "--top_p is for --decode=sample, not for --decode=greedy"),
        (
            {"decode": "beam", "temperature": 1.0},
            "--temperature is for --decode=sample, not for --decode=beam",
        ),
        ({"max_words": 0}, "--max_words=0 is not accepted: it must be a whole number, at least 1"),
        ({"continuations": 0}, "--continuations=0 is not accepted: it must be a whole number, at least 1"),
        (
            {"decode": "greedy", "continuations": 2},
            "--continuations=2 is not accepted: --decode=greedy finds 1",
        ),
        (
            {"decode": "beam", "beam": 3, "continuations": 4},
            "--continuations=4 is not accepted: --decode=beam finds 3 of each prompt",
        ),
        ({"color": "red"}, "--color=red is not accepted: it must be one of auto, always, never"),
        ({"seed": -1}, "seed=-1 is not accepted: it must be"),
        (
            {"output": "missing/out.jsonl"},
            "--output=missing/out.jsonl is not accepted: it must be a file in a",
        ),
        ({"output": "."}, "--output=. is not accepted: it must be a file in a directory that exists"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_are_refused(run, arguments, message, monkeypatch, tmp_path):
    path, config, _ = run
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        continue_prompts(config, path, ["the"], **arguments)
    assert message in str(caught.value)


def test_workdirs_without_a_trained_model_are_refused(run, tmp_path):
    path, config, _ = run
    with pytest.raises(InputError, match="does not exist"):
        continue_prompts(config, tmp_path / "nowhere")
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    shutil.rmtree(copy / "checkpoints" / "best")
    with pytest.raises(InputError, match=f"workdir {copy} holds no best checkpoint"):
        continue_prompts(config, copy)
    (copy / "vocabulary.txt").unlink()
    with pytest.raises(InputError, match=r"cannot read .*vocabulary\.txt"):
        continue_prompts(config, copy)


def test_vocabularies_without_the_words_that_are_needed_are_refused(tmp_path, capsys):
    config, _ = made(tmp_path / "a", vocabulary=Vocabulary(["a", "b"]))
    with pytest.raises(InputError, match="--end_at_eos needs <eos> in the vocabulary"):
        continue_prompts(config, tmp_path / "a", ["a"], end_at_eos=True)
    with pytest.raises(InputError, match="prompt 'a c': word 'c' is not among the 2 words"):
        continue_prompts(config, tmp_path / "a", ["a c"])
    capsys.readouterr()
    continue_prompts(config, tmp_path / "a", ["a"], max_words=3)
    assert "no <unk>" not in capsys.readouterr().out
    config, _ = made(tmp_path / "b", vocabulary=Vocabulary(["<unk>", "<eos>"]))
    with pytest.raises(InputError, match="no word besides <unk> and <eos>"):
        continue_prompts(config, tmp_path / "b", [""], end_at_eos=True)


def test_an_output_that_cannot_be_written_is_reported(run, tmp_path):
    path, config, _ = run
    output = tmp_path / "out.jsonl"
    output.symlink_to(tmp_path / "gone" / "out.jsonl")
    with pytest.raises(InputError, match=f"cannot write {output}: No such file"):
        continue_prompts(config, path, ["the"], max_words=2, output=output)


def test_what_is_restored_is_the_best_checkpoint(run):
    path, config, model = run
    found = restored(restorable, config, Workdir(path, create=False))
    assert (found.step, found.vocabulary) == (12, VOCABULARY)
    for variable, expected in zip(found.model.variables, model.variables, strict=True):
        if variable.dtype == "float32":
            np.testing.assert_array_equal(tf.convert_to_tensor(variable), tf.convert_to_tensor(expected))
