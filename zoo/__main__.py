"""`python -m zoo`, the same program as `tfp-bayesrnn` and `absl_main.py`."""

from zoo.command_line import console

if __name__ == "__main__":
    console.run()
