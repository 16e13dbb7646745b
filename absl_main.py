"""Trains, evaluates and uses Bayesian recurrent networks.

  python absl_main.py --mode=list
  python absl_main.py --mode=train --preset=demo_bbb --workdir=runs/demo
  python absl_main.py --help

An installed package has the same program under the name `tfp-bayesrnn`.
"""

from __future__ import annotations

from collections.abc import Sequence

from zoo.command_line import console


def main(argv: Sequence[str]) -> int:
    """Runs one command line, the program's name first; returns its exit status."""
    from zoo.command_line import main as command_line

    return command_line.main(argv)


if __name__ == "__main__":
    console.run()
