"""For `scripts/test --faults`: a byte flipped in every kind of file that a workdir holds, or an export.

Whatever then reads the file says so in one line, or comes to the same result: never to another one.
"""

from __future__ import annotations

import collections
import re
from typing import NamedTuple

import keras
import numpy as np
import paths
from commands import Outcome, carry_out, figures, put_back, survive
from states import files

from runs import Layout, NotSurvived, Run, tf
from zoo.captioning.encoder import build_encoder
from zoo.captioning.features import features_of
from zoo.data.photos import PhotoBytes


class Kind(NamedTuple):
    """Files that the same modes read.

    Attributes:
      name: for the table.
      files: of their paths, as a regular expression.
      readers: modes, "resume", or "score" of an export, each with the folder that it is given.
      flips: how many bytes of each are flipped for each reader.
    """

    name: str
    files: str
    readers: tuple[tuple[str, str], ...]
    flips: int


def _of(folder: str, *modes: str) -> tuple[tuple[str, str], ...]:
    return tuple((mode, folder) for mode in modes)


_ALL = _of("plain-run", "resume", "evaluate", "generate", "report")
_SCORE = ("--mode=uncertainty", "--data=builtin", "--words=30", "--num_samples=0")
KINDS = (
    Kind("config.json", r"plain-run/config\.json", _ALL, 8),
    Kind("vocabulary.txt", r"plain-run/vocabulary\.txt", _ALL, 8),
    Kind("data.json", r"plain-run/data\.json", _of("plain-run", "resume", "evaluate"), 8),
    Kind("metrics.jsonl", r"plain-run/metrics\.jsonl", _of("plain-run", "resume", "evaluate", "report"), 8),
    Kind("results", r"plain-run/(results|pruning|uncertainty)\.json", _of("plain-run", "report"), 12),
    Kind("checksums.txt", r"plain-run/checksums\.txt", _ALL, 2),
    Kind("newest checkpoint", r"plain-run/checkpoints/ckpt-.*", _of("plain-run", "resume"), 2),
    Kind(
        "best checkpoint",
        r"plain-run/checkpoints/best/.*",
        _of("plain-run", "evaluate", "generate", "report"),
        3,
    ),
    Kind(
        "pruned", r"plain-run/pruned/(?!checkpoints/ckpt).*", _of("plain-run/pruned", "evaluate", "report"), 2
    ),
    Kind("export", r"export/(?!README|signatures).*", _of("export", "score"), 4),
    Kind("of a run that diverged", r"diverged/diverged\.json", _of("diverged", "report"), 12),
    # Nothing reads these.
    Kind("read by nothing", r"plain-run/(report|pruning)\.(html|svg)", _of("plain-run", "evaluate"), 1),
    Kind("read by nothing", r"plain-run/(tensorboard|uncertainty)/.*", _of("plain-run", "evaluate"), 1),
    Kind("read by nothing", r"plain-run/pruned/checkpoints/.*", _of("plain-run", "evaluate"), 1),
    Kind("read by nothing", r"export/(README|signatures).*|words\.jsonl", _of("export", "score"), 1),
    Kind("read by nothing", r"diverged/(?!diverged\.json).*", _of("plain-run", "evaluate"), 1),
)


class _Folder:
    """A run, all that the modes leave of it, and what they come to where nothing is damaged."""

    def __init__(self, suite, layout: Layout):
        workdir, _ = paths.plain(suite, layout)
        self._run = Run(layout, workdir)
        self.path = workdir.parent
        diverged = Run(layout, self.path / "diverged").arguments()
        if not carry_out(self.path, *diverged, "--config.train.max_nll=1e-3").is_refusal:
            raise NotSurvived("a training does not diverge")
        survive(self.path, *self._command("report", "diverged"))
        self.sound = files(self.path)
        self._outcomes: dict[tuple[str, str], Outcome] = {}

    def _command(self, mode: str, folder: str) -> list[str]:
        if mode == "resume":
            return self._run.arguments()
        if mode == "score":
            return [*_SCORE, f"--workdir={self.path / 'scored'}", f"--compare={self.path / folder}"]
        return paths.command(mode, self.path / folder)

    def read(self, mode: str, folder: str) -> Outcome:
        """What a mode comes to; all files are put back."""
        try:
            return carry_out(self.path, *self._command(mode, folder))
        finally:
            put_back(self.path, self.sound)

    def flip(self, name: str, place: int, bits: int, mode: str, folder: str) -> str:
        """What a mode does about flipped bits of a byte of a file: "refused", "said" or "harmless".

        Raises:
          NotSurvived: anything else.
        """
        if (mode, folder) not in self._outcomes:
            self._outcomes[mode, folder] = self.read(mode, folder)
            if self._outcomes[mode, folder].status != 0:
                raise NotSurvived(f"{mode} does not go through: {self._outcomes[mode, folder]}")
        damaged = bytearray(self.sound[name])
        damaged[place] ^= bits
        (self.path / name).write_bytes(damaged)
        found, expected = self.read(mode, folder), self._outcomes[mode, folder]
        if found.is_refusal:
            return "refused"
        if found.status != 0:
            raise NotSurvived(f"status {found.status}; it said {found.said}")
        if "No passage: " in str(found.left.get(f"{folder}/report.html")):
            return "said"
        differing = {
            path
            for path in found.left.keys() | expected.left.keys()
            if path != name and found.left.get(path) != expected.left.get(path)
        }
        if found.left.get(name) not in (expected.left.get(name), figures(name, bytes(damaged))):
            differing.add(name)
        if differing or found.printed != expected.printed:
            raise NotSurvived(f"another result, of {sorted(differing) or 'what is printed'}")
        return "harmless"


def flips(suite, layout: Layout) -> None:
    """Flips bytes of all files, and lets the modes that read them read them."""
    folder = _Folder(suite, layout)
    for name in folder.sound:
        kind = next((kind for kind in KINDS if re.fullmatch(kind.files, name)), None)
        if kind is None:
            suite.row("byte flipped: of no known kind", layout).tried += 1
            suite.say(f"{name}: NOT SURVIVED: no kind of flips.py")
            continue
        counts = _flip_some(suite, folder, name, kind, suite.row(f"byte flipped: {kind.name}", layout))
        suite.say(f"{name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    _features(suite, layout)


def _flip_some(suite, folder: _Folder, name: str, kind: Kind, row) -> collections.Counter[str]:
    size, counts = len(folder.sound[name]), collections.Counter()
    for mode, of in kind.readers:
        for place in suite.generator.choice(size, min(kind.flips, size), replace=False):
            bits = int(suite.generator.integers(1, 256))
            row.tried += 1
            try:
                counts[folder.flip(name, int(place), bits, mode, of)] += 1
                row.survived += 1
            except NotSurvived as error:
                suite.say(f"{name}, byte {place} ^ {bits}, {mode}: NOT SURVIVED: {error}")
    return counts


def _features(suite, layout: Layout, count: int = 5, tried: int = 20) -> None:
    """Flips bytes of an encoder's kept vectors, which then are computed again."""
    keras.utils.set_random_seed(0)
    folder, encoder = suite.new_directory(), build_encoder("compact", 32, trainable=False, width=2)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    contents = [tf.io.encode_png(one).numpy() for one in pixels]
    photos = PhotoBytes([f"photo{place}" for place in range(count)], contents)
    expected = features_of(encoder, photos, 32, folder)
    row = suite.row("byte flipped: kept features", layout)
    (path,) = folder.iterdir()
    sound = path.read_bytes()
    for place in suite.generator.choice(len(sound), tried, replace=False):
        damaged = bytearray(sound)
        damaged[place] ^= int(suite.generator.integers(1, 256))
        path.write_bytes(damaged)
        row.tried += 1
        row.survived += features_of(encoder, photos, 32, folder).tobytes() == expected.tobytes()
        path.write_bytes(sound)
    suite.say(f"kept features: {tried} flips")
