"""The configuration of a language model, beside what every task has (`zoo.runs.settings`).

TensorFlow is not imported: listing presets does without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.configuration import checks, limits, methods
from zoo.configuration.fields import Change, Table, setting, settings, table
from zoo.data.datasets import CORPORA
from zoo.language_model.cells import CELLS
from zoo.runs.settings import RunConfig, Training

TAILS = ("drop", "pad")
DYNAMIC_RULES = ("sgd", "rms", "posterior")


@dataclass(frozen=True, kw_only=True)
class Data(Table):
    """The data that is read, and which words of a text of one's own are taken."""

    name: str = setting("builtin", checks.choice(*CORPORA), "the data set")
    min_count: int = setting(
        1,
        checks.whole(1, limits.COUNT),
        "how often a word has to occur in train, others are <unk>; of data text",
        added=True,
    )
    max_words: int = setting(
        0,
        checks.VOCABULARY,
        "words of the vocabulary at most, the most frequent ones; 0: all; of data text",
        added=True,
    )
    lowercase: bool = setting(
        False, checks.FLAG, "whether text is read in lower case; of data text", added=True
    )

    @property
    def options(self) -> dict[str, Any]:
        """What the data set's reader is told besides its name."""
        return {name: getattr(self, name) for name in CORPORA[self.name].options}

    def check(self) -> None:
        """Checks that nothing is set without effect.

        Raises:
          InputError: something is.
        """
        from tfp_bayesrnn.errors import InputError

        for one in settings(Data):
            value = getattr(self, one.name)
            if one.name not in ("name", *self.options) and value != one.default:
                able = " or ".join(name for name, dataset in CORPORA.items() if one.name in dataset.options)
                raise InputError(
                    f"data.{one.name}={value!r} has no effect with data.name={self.name!r}; accepted then: "
                    f"{one.default!r}, or data.name={able}"
                )


@dataclass(frozen=True, kw_only=True)
class Model(Table):
    """The network of words, the decoder of a captioning network too; each is an argument of its own there."""

    embedding_units: int = setting(200, checks.UNITS, "units of the embedding")
    units: int = setting(200, checks.UNITS, "units of each recurrent layer")
    layers: int = setting(2, checks.whole(1, limits.LAYERS), "recurrent layers")
    cell: str = setting("lstm", checks.choice(*CELLS), "kind of the recurrent layers", added=True)
    init_range: float = setting(0.1, checks.POSITIVE, "weights start uniformly in (-this, this)")
    tied: bool = setting(False, checks.FLAG, "whether embedding and softmax share one weight")
    dropout: float = setting(0.0, checks.RATE, "rate between layers, drawn for every step")
    word_dropout: float = setting(0.0, checks.RATE, "rate of word types, one mask for a row")
    input_dropout: float = setting(0.0, checks.RATE, "rate of a layer's input, one mask for all steps")
    recurrent_dropout: float = setting(0.0, checks.RATE, "rate of recurrent connections, one mask likewise")
    output_dropout: float = setting(0.0, checks.RATE, "rate of the softmax's input, one mask likewise")

    def size(self) -> str:
        """Layers and units, as in "2x650", and the cell if it is no LSTM."""
        return f"{self.layers}x{self.units}" + (f" {self.cell}" if self.cell != "lstm" else "")

    def check(self) -> None:
        """Checks that sizes go together.

        Raises:
          InputError: they do not.
        """
        from tfp_bayesrnn.errors import InputError

        units, inputs, layers = self.units, self.embedding_units, self.layers
        if self.tied and inputs != units:
            raise InputError(
                f"model.tied=True needs model.embedding_units={inputs} to equal model.units={units}"
            )
        if 4 * units * (inputs + units + (layers - 1) * 2 * units) > limits.RECURRENT_WEIGHTS:
            raise InputError(
                f"model.units={units}, model.embedding_units={inputs} and model.layers={layers} are not "
                "accepted together: the recurrent layers must have at most "
                f"{limits.RECURRENT_WEIGHTS} weights"
            )


@dataclass(frozen=True, kw_only=True)
class WindowTraining(Training):
    """Training on windows of rows."""

    unroll: int = setting(20, checks.WINDOW, "words of a window")
    tail: str = setting("drop", checks.choice(*TAILS), "what becomes of words that fill no window")

    def check(self) -> None:
        """Checks that a window is not too large."""
        check_window("train", batch=self.batch, unroll=self.unroll)


@dataclass(frozen=True, kw_only=True)
class Evaluation(Table):
    """The settings by which models are scored."""

    rows: int = setting(20, checks.ROWS, "rows that validation cuts a text into")
    unroll: int = setting(35, checks.WINDOW, "words of a window of it")
    final_rows: int = setting(1, checks.ROWS, "rows of the final figures; 1 reads a text as one stream")
    final_unroll: int = setting(100, checks.WINDOW, "words of a window of them")
    num_samples: int = setting(
        0, checks.SAMPLES, "samples of the weights that are averaged; 0: the posterior mean only"
    )
    # The paper's rate is 0.1, which suits 20 rows: one row wants a smaller rate.
    dynamic_learning_rate: float = setting(
        0.0, checks.not_negative(), "rate of dynamic evaluation; 0: there is none", added=True
    )
    dynamic_rule: str = setting(
        "sgd",
        checks.choice(*DYNAMIC_RULES),
        "steps of dynamic evaluation: plain, normalised by the gradients of training, or by the variances of "
        "the posterior",
        added=True,
    )
    dynamic_decay: float = setting(
        0.0, checks.not_negative(1.0), "its decay towards the trained weights; sgd has none", added=True
    )

    def check(self) -> None:
        """Checks that windows are not too large, and that dynamic evaluation has what its rule needs."""
        check_window("evaluate", rows=self.rows, unroll=self.unroll)
        self._check_rule()
        check_window("evaluate", final_rows=self.final_rows, final_unroll=self.final_unroll)

    def _check_rule(self) -> None:
        from tfp_bayesrnn.errors import InputError

        rule, rate, decay = self.dynamic_rule, self.dynamic_learning_rate, self.dynamic_decay
        if rule == "sgd" and decay:
            raise InputError(
                f"evaluate.dynamic_decay={decay:g} is not accepted with evaluate.dynamic_rule='sgd', which "
                "has no decay: it must be 0, or the rule rms or posterior"
            )
        if rule != "sgd" and not rate:
            raise InputError(
                f"evaluate.dynamic_rule={rule!r} is not accepted with evaluate.dynamic_learning_rate=0, "
                "which means no dynamic evaluation: give a rate above 0"
            )


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(RunConfig):
    """A language model's configuration."""

    task: str = setting("language_model", checks.choice("language_model"), "what is learnt")
    method: str = setting("bbb", checks.choice(*methods.METHODS), "how weights are learnt")
    data: Data = table(Data)
    model: Model = table(Model)
    train: WindowTraining = table(WindowTraining)
    evaluate: Evaluation = table(Evaluation, Change.EVALUATED)

    def check(self) -> None:
        """Checks that there are variances where dynamic evaluation goes by them.

        Raises:
          InputError: there are none.
        """
        from tfp_bayesrnn.errors import InputError

        super().check()
        if self.evaluate.dynamic_rule == "posterior" and self.method not in methods.BAYESIAN_METHODS:
            raise InputError(
                "evaluate.dynamic_rule='posterior' goes by the variances of a posterior, and weights of the "
                f"method {self.method!r} have none: accepted are sgd and rms"
            )


def check_window(table: str, **sizes: int) -> None:
    """Checks that rows and words of a window, both accepted alone, are accepted together.

    Raises:
      InputError: they are not.
    """
    from tfp_bayesrnn.errors import InputError

    (rows, count), (window, length) = sizes.items()
    if count * length > limits.AT_ONCE:
        raise InputError(
            f"{table}.{rows}={count} and {table}.{window}={length} are not accepted together: their product "
            f"must be at most {limits.AT_ONCE}, the words of a window"
        )
