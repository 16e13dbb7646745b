"""`benchmarks.forecast_table`: figures over seeds, from results alone."""

from benchmarks.forecast_table import table


def run(preset, seed, mase, crps, coverage, samples=None):
    figures = {"mase": mase, "crps": crps, "msis": 10.0 + seed, "coverage_90": coverage}
    found = {"preset": preset, "data": "tourism_" + preset.split("_")[1], "seed": seed, "test": figures}
    return found | ({"test_mc": {**figures, "crps": crps - 0.5, "samples": samples}} if samples else {})


def test_means_over_seeds_with_their_range_and_the_lowest_of_a_data_set():
    lines = table(
        [
            run("tourism_monthly_deterministic", 0, 1.5, 1.25, 0.9),
            run("tourism_monthly_deterministic", 1, 1.0, 1.0, 0.8),
            run("tourism_monthly_bbb", 0, 1.0, 1.5, 0.95, samples=20),
            run("tourism_quarterly_bbb", 0, 3.0, 3.0, 0.85),
        ]
    ).splitlines()
    assert lines[0] == "| preset | weights | seeds | MASE | CRPS | MSIS | in 90 % |"
    assert lines[2] == (
        "| `tourism_monthly_deterministic` | mean | 2 | 1.250 (1.000 to 1.500) | 1.125 (1.000 to 1.250) | "
        "10.5 (10.0 to 11.0) | 85.0 (80.0 to 90.0) |"
    )
    assert lines[3] == "| `tourism_monthly_bbb` | mean | 1 | **1.000** | 1.500 | **10.0** | 95.0 |"
    assert lines[4] == "| `tourism_monthly_bbb` | 20 samples | 1 | **1.000** | **1.000** | **10.0** | 95.0 |"
    assert lines[5] == "| `tourism_quarterly_bbb` | mean | 1 | 3.000 | 3.000 | 10.0 | 85.0 |"
