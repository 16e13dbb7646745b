"""The table of results that README and docs show."""

import json

import pytest

from benchmarks import results_table


def result(preset, epochs, test, kl=None, **more):
    found = {"preset": preset, "epochs": epochs, "epochs_trained": 20, "kl_per_training_token": kl}
    for suffix, perplexity in {"": test, **more}.items():
        name = "perplexity_bound" if "bound" in suffix else "perplexity"
        found[f"valid{suffix}"] = {name: perplexity + 3.04, "samples": 10}
        found[f"test{suffix}"] = {name: perplexity, "samples": 10}
    return found


def test_a_row_for_each_run_and_the_lowest_in_bold():
    runs = [
        result("plain", 6, 114.2),
        result("bayes", 20, 87.54, 2.68, _mc=88.6),
        result("sharpened", 20, 88.1, 2.7, _sharpened_bound=87.9),
    ]
    head, _, *rows = results_table.table(runs).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in (head, *rows)]
    assert cells[0] == [
        *("preset", "valid", "test", "10 samples: valid", "test", "bound: valid", "test"),
        *("best epoch", "KL, nats per training token"),
    ]
    assert cells[1] == ["`plain`", "117.2", "114.2", "", "", "", "", "6 of 20", ""]
    assert cells[2] == ["`bayes`", "**90.6**", "**87.5**", "91.6", "88.6", "", "", "20 of 20", "2.68"]
    assert cells[3][1:7] == ["91.1", "88.1", "", "", "≤ 90.9", "≤ 87.9"]


def test_fewer_columns_and_more_digits():
    runs = [{**result("bayes", 20, 87.544, 2.68, _mc=88.6), "note": "a note"}, result("plain", 6, 114.2)]
    shown = results_table.table(runs, digits=2, splits=["test"], with_training=False).splitlines()
    assert shown[0] == "| preset | test | 10 samples: test |"
    assert shown[2:] == ["| `bayes` (a note) | **87.54** | 88.60 |", "| `plain` | 114.20 |  |"]


def test_the_command_reads_workdirs(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "results.json").write_text(json.dumps(result("demo_bbb", 3, 20.0)))
    results_table.main([str(tmp_path / "a")])
    assert "| `demo_bbb` | 23.0 | 20.0 | 3 of 20 |  |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        results_table.main([str(tmp_path / "a"), str(tmp_path / "b")])
    assert f"no results.json in {tmp_path / 'b'}" in capsys.readouterr().err
