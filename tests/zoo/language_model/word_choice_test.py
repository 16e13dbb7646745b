"""Ways in which the command `generate` chooses words."""

import pytest
from generated_text import VOCABULARY, blocks, made, records, with_samples

from tfp_bayesrnn.errors import InputError
from zoo.language_model.continuations import Generator
from zoo.language_model.continue_prompts import continue_prompts
from zoo.language_model.word_choice import DEFAULT_BEAM

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir, its configuration and its model."""
    path = tmp_path_factory.mktemp("run")
    return path, *made(path)


@pytest.mark.slow
def test_ways_of_choosing_words_reach_the_generator(run, capsys):
    path, config, model = run

    def texts(**arguments):
        continue_prompts(config, path, ["the"], max_words=6, output="-", **arguments)
        return [record["text"] for record in records(capsys.readouterr().out)]

    def expected(continuations=1, **arguments):
        generator = Generator(model, VOCABULARY, 6, **{"forbidden": ["<unk>"], **arguments})
        return [found.text for found in generator.generate(["the"], continuations)[0]]

    assert texts(decode="greedy") == expected()
    assert texts(decode="greedy", allow_unk=True) == expected(forbidden=())
    assert texts(decode="beam", beam=3, continuations=2) == expected(2, beam=3)
    assert texts(decode="beam") == expected(beam=DEFAULT_BEAM)
    sampling = {"temperature": 2.0, "top_k": 4, "top_p": 0.8}
    assert texts(**sampling, continuations=3) == expected(3, sampling=sampling)
    assert texts(decode="greedy", draw_per_continuation=True, continuations=3) == expected(
        3, draw_per_continuation=True
    )


@pytest.mark.slow
def test_the_heading_says_how_words_are_chosen(run, capsys):
    path, config, _ = run
    for arguments, said in (
        ({"temperature": 0.5, "top_k": 3}, "posterior mean, sampled (temperature 0.5, top_k 3), seed 0"),
        ({"decode": "greedy"}, "posterior mean, the most probable word each time, seed 0"),
        ({"decode": "beam", "beam": 2, "allow_unk": True}, "posterior mean, beam 2, seed 0\n"),
        (
            {"draw_per_continuation": True, "continuations": 2},
            "a draw for each continuation, scored by the average over all 2, sampled, seed 0",
        ),
    ):
        continue_prompts(config, path, ["the"], max_words=2, **arguments)
        assert f"step 12; {said}" in capsys.readouterr().out


def test_other_methods_have_one_set_of_weights(tmp_path, capsys):
    config, _ = made(tmp_path, "demo_dropout")
    continue_prompts(with_samples(config, 5), tmp_path, ["the"], max_words=2)
    heading, [(_, [(_, figures)])] = blocks(capsys.readouterr().out)
    assert "; one set of weights, sampled" in heading[0]
    assert "mutual information" not in figures
    with pytest.raises(InputError, match=r"--draw_per_continuation needs a Bayesian method.*'dropout'"):
        continue_prompts(config, tmp_path, draw_per_continuation=True)
