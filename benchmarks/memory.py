"""Resident memory of a process of its own that trains or evaluates; `benchmarks.speed` starts it.

    python -m benchmarks.memory training      # a few steps of PTB medium, BBB
    python -m benchmarks.memory evaluation 10 # the average over 10 samples, PTB small

Prints {"imports": GiB right before the model is built, "peak": GiB at the peak} as JSON, of an environment
with what the package itself depends on.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

from zoo.command_line import quiet_imports

STEPS, WINDOWS = 8, 2

# Keras imports these where they are installed. The package needs none of them; its tests and plots do.
NOT_NEEDED = ("matplotlib", "pandas", "scipy", "sklearn")


def resident(field: str) -> float:
    """GiB of this process: "VmRSS" now, "VmHWM" at its peak.

    Not getrusage's: that peak is inherited from the process that started this one.
    """
    status = pathlib.Path("/proc/self/status").read_text(encoding="ascii").split()
    return int(status[status.index(f"{field}:") + 1]) / 2**20


def of_process(*work: str) -> dict[str, float]:
    """What a fresh process with these arguments prints.

    Raises:
      RuntimeError: if it fails.
    """
    command = [sys.executable, "-m", "benchmarks.memory", *work]
    found = subprocess.run(command, capture_output=True, text=True)
    if found.returncode:
        raise RuntimeError(f"{' '.join(work)}: {found.stderr}")
    return json.loads(found.stdout)


def main():
    """Does the work, prints its memory."""
    sys.modules.update(dict.fromkeys(NOT_NEEDED))
    contestants = quiet_imports.import_quietly("benchmarks.contestants")
    imports = resident("VmRSS")
    if sys.argv[1] == "training":
        step = contestants.our_step("medium", "BBB")
        for _ in range(STEPS):
            step()
    else:
        contestants.evaluation("small", WINDOWS, int(sys.argv[2]))["average over samples"]()
    print(json.dumps({"imports": imports, "peak": resident("VmHWM")}))


if __name__ == "__main__":
    main()
