"""Train and evaluate Bayesian recurrent networks.

  python absl_main.py --mode=list
  python absl_main.py --mode=train --preset=demo_bbb --workdir=runs/demo
  python absl_main.py --mode=train --preset=ptb_small_bbb --data_dir=path/to/ptb --workdir=runs/ptb \\
      --config.train.epochs=3 --config.prior.granularity=weight
  python absl_main.py --mode=evaluate --workdir=runs/ptb --config.evaluate.final_rows=20
  python absl_main.py --mode=caption --workdir=runs/shapes --images=path/to/photos --num_samples=10

Modes:
  list      the presets: task, size, method, description
  train     trains, evaluates on valid and test, writes results.json; run again, it resumes
  evaluate  evaluates what is in a workdir
  caption   captions photos with the captioning model in a workdir, words shaded by its uncertainty

A workdir receives config.json, metrics.jsonl, results.json, checkpoints/ and tensorboard/.
--config.FIELD=VALUE sets any field of the preset's configuration (config.json shows them all).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns its exit status."""
    from zoo.command_line import command_line  # Here, since it takes a moment, in which a signal may come.

    return command_line.main(argv, __doc__)


def _end(number: int, _frame) -> None:
    """What a signal does before `zoo.machine.interruption` handles it, and after."""
    os.write(2, f"interrupted by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)


if __name__ == "__main__":
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, _end)
    sys.exit(main(sys.argv))
