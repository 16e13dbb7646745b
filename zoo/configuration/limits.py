"""The largest sizes that are accepted: far above what anybody needs, and small enough to be tried.

What is beyond them would be found out only after minutes of silence, in an error about memory, or never.
"""

from __future__ import annotations

SAMPLES = 10_000
"""Draws of the weights that are averaged."""

DRAWS_IN_A_GRAPH = 1_000
"""Those where each draw has its part of the graph that finds words: texts and captions."""

ROWS = 65_536
"""Rows of a minibatch, or that a text is cut into."""

WINDOW = 65_536
"""Words of a window that is read at once."""

AT_ONCE = 2**20
"""Words of all rows of a window together."""

UNITS = 65_536
"""Of a layer."""

LAYERS = 100

RECURRENT_WEIGHTS = 2**31
"""Of all recurrent layers together."""

RANK = 1_000
"""Of the scales of a weight."""

EPOCHS = 1_000_000

COUNT = 1_000_000
"""What is only counted: epochs without progress, occurrences of a word, words of a mean."""

BEAMS = 1_000

WORDS = 10_000
"""Of a text or a caption that is generated."""

CONTINUATIONS = 10_000
"""Of a prompt."""

CAPTIONS = 1_000
"""Of an image."""

IMAGE_SIZE = 4_096
"""Pixels of a side."""

ENCODER_WIDTH = 1_024

CPU_DEVICES = 256

WHOLE = 2**31 - 1
"""What is no size: how many words of a text are taken."""
