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

import sys
from collections.abc import Sequence

from zoo import command_line


def main(argv: Sequence[str]) -> int:
    """Runs one command line; returns its exit status."""
    return command_line.main(argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
