"""What runs survive: processes killed and asked to end, checkpoints damaged, disks filled.

`scripts/test --faults` runs it. Each fault is dealt to a real run, which then is started again with the same
command and must end as one that nothing happened to: the same variables to the last bit, the same metrics, no
step lost that a checkpoint held.
Where the run cannot go on, it must say so in one line and end with the status that means it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from registry import FAULTS
from suite import Suite, table


def main() -> int:
    """Runs the suite; 1 if anything was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many SIGKILLs, over all layouts")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the damages")
    parser.add_argument("--only", choices=list(FAULTS), action="append", help="only these faults")
    arguments = parser.parse_args()
    suite = Suite(Path(tempfile.mkdtemp(prefix="faults-")), arguments.seed, arguments.kills)
    for name, deal in FAULTS.items():
        if not arguments.only or name in arguments.only:
            deal(suite)
    suite.say("done\n")
    print(table(suite.rows))
    hits = ", ".join(f"{where}: {count}" for where, count in sorted(suite.hits.items()) if count)
    print(f"\nWhere SIGKILL hit: {hits or 'nowhere'}")
    if any(row.survived < row.tried for row in suite.rows):
        print(f"What was not survived is in {suite.directory}")
        return 1
    shutil.rmtree(suite.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
