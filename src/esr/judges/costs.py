"""What replies cost: prices from a dated file, what was spent, and the cap on it.

What was spent is not kept anywhere but in the replies themselves: their token counts, as the API
reported them, at the prices of the file. So it is right after any kill, and a corrected price
corrects it.
"""

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from esr.config import Config
from esr.errors import EsrError
from esr.judges.replies import Call, Reply, read_reply, reply_journals

log = logging.getLogger(__name__)

COLUMNS = ["model", "input", "output", "batch_input", "batch_output"]
COLUMNS += ["date", "source", "retires", "note"]
CHARACTERS_PER_TOKEN = 4
"""Of English text; only for estimates and bounds beforehand. Bills count tokens."""


@dataclass(frozen=True)
class Price:
    """Price of a model.

    Attributes:
        input: US dollars per million tokens read.
        output: The same for tokens written.
        batch_input: In batches; as `input` where there is no other price.
        batch_output: Likewise.
        date: When it was looked up.
        source: Where.
        retires: Day from which the model is gone, if known.
        note: What else is to be known.
    """

    input: float
    output: float
    batch_input: float
    batch_output: float
    date: str
    source: str
    retires: str
    note: str

    def cost(self, input_tokens: float, output_tokens: float, batch: bool) -> float:
        """Cost in dollars."""
        read, written = (
            (self.batch_input, self.batch_output) if batch else (self.input, self.output)
        )
        return (input_tokens * read + output_tokens * written) / 1e6


def read_prices(path: Path) -> dict[str, Price]:
    """Prices by model id.

    Raises:
        EsrError: not a price file, or a model that is in it twice.
    """
    prices: dict[str, Price] = {}
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames != COLUMNS:
            raise EsrError(f"prices: {path} has columns {rows.fieldnames}, needs {COLUMNS}")
        for row in rows:
            if row["model"] in prices:
                raise EsrError(f"prices: {path} lists {row['model']} twice; keep one of them")
            prices[row["model"]] = _price(row, path)
    return prices


def _price(row: Mapping[str, str], path: Path) -> Price:
    try:
        live = float(row["input"]), float(row["output"])
        batch = (
            float(row["batch_input"] or row["input"]),
            float(row["batch_output"] or row["output"]),
        )
    except ValueError as error:
        raise EsrError(f"prices: {path}, {row['model']}: {error}; give dollars a million") from None
    if not row["date"]:
        raise EsrError(f"prices: {path}, {row['model']}: no date; say when it was looked up")
    return Price(*live, *batch, row["date"], row["source"], row["retires"], row["note"])


def price_of(model: str, prices: Mapping[str, Price], path: Path) -> Price:
    """Price of a model.

    Raises:
        EsrError: it is not in the file.
    """
    if model not in prices:
        raise EsrError(
            f"{path} has no price of model {model}; add a line with its date and source "
            "(a server of your own: 0)"
        )
    return prices[model]


def tokens(text: str) -> float:
    """Tokens of a text, estimated."""
    return len(text) / CHARACTERS_PER_TOKEN


def max_cost(call: Call, max_tokens: int, price: Price) -> float:
    """Most that a live call may cost, in dollars: a reply as long as allowed.

    Input is taken at two characters a token, which no ordinary text exceeds.
    """
    schema = json.dumps(call.schema) if call.schema else ""
    read = len(call.system + call.user + schema) / 2
    return price.cost(read, max_tokens, batch=False)


class Budget:
    """The cap on what all replies of a study may cost; reads what was spent from their journals.

    Several jobs may write at a time: each sees what the others have written, as soon as it is.
    What the others have in flight it does not see.
    """

    def __init__(
        self, limit: float, prices: Mapping[str, Price], path: Path, journals: Iterable[Path]
    ):
        """Cap in dollars, prices, their file, and the journals of all replies of the study."""
        self.limit = limit
        self._prices, self._path = prices, path
        self._read_to = dict.fromkeys(journals, 0)
        self._spent = 0.0

    def price(self, model: str) -> Price:
        """Price of a model; EsrError if the file has none, as a cap needs one."""
        return price_of(model, self._prices, self._path)

    @property
    def spent(self) -> float:
        """Dollars spent up to now."""
        for journal, at in self._read_to.items():
            if journal.is_file() and journal.stat().st_size > at:
                with journal.open("rb") as file:
                    file.seek(at)
                    news = file.read()
                whole = news.rfind(b"\n") + 1
                self._read_to[journal] = at + whole
                for reply, model in _replies(news[:whole].splitlines()):
                    self._spent += self.price(model).cost(
                        reply.input_tokens, reply.output_tokens, reply.batch
                    )
        return self._spent

    def allows(self, dollars: float) -> bool:
        """Whether so much more may be spent."""
        return self.spent + dollars <= self.limit

    def exceeded(self, wanted: float) -> EsrError:
        """The error that ends a job at the cap."""
        return EsrError(
            f"judging.budget: ${self.limit:.2f} would be exceeded: ${self.spent:.4f} are spent, "
            f"and what comes next may cost ${wanted:.4f}; every reply so far is kept. Raise the "
            "budget and run again"
        )


def study_budget(config: Config) -> Budget | None:
    """The cap of a study, if it has one."""
    judging = config.judging
    if judging.budget is None:
        return None
    journals = [path for _, _, path in reply_journals(config)]
    return Budget(judging.budget, read_prices(judging.prices), judging.prices, journals)


def _replies(lines: Iterable[bytes]) -> Iterator[tuple[Reply, str]]:
    """Replies in lines of a journal, each with the model that was asked for."""
    for line in lines:
        record: dict[str, Any] = json.loads(line)
        if "body" in record:
            yield read_reply(record), record["identity"]["model"]


LEDGER = ["rule", "judge", "model", "served_as", "mode", "calls", "input_tokens", "output_tokens"]
LEDGER += ["dollars", "price_date", "price_source"]


def ledger(config: Config) -> pd.DataFrame:
    """What was spent, one row a rule, judge and mode; a judge that costs nothing has zero calls.

    Columns: rule, judge, model (id asked for), served_as (what answered, by its own account), mode
    (`live`, `batch` or `free`), calls (replies received), input_tokens, output_tokens, dollars
    (missing where there is no price), price_date, price_source.
    """
    keys = ["rule", "judge", "model", "mode", "price_date", "price_source"]
    booked = pd.DataFrame(_booked(config), columns=LEDGER)
    sums = booked.groupby(keys, sort=True).agg(
        served_as=("served_as", lambda names: "; ".join(sorted(set(names)))),
        calls=("calls", "sum"),
        input_tokens=("input_tokens", "sum"),
        output_tokens=("output_tokens", "sum"),
        dollars=("dollars", lambda values: values.sum(skipna=False)),
    )
    free = [
        {"rule": "judge_responses", "judge": name, "model": judge.kind, "served_as": judge.kind}
        | {"mode": "free", "calls": 0, "input_tokens": 0, "output_tokens": 0, "dollars": 0.0}
        for name, judge in config.judging.judges.items()
        if name not in config.judging.llms
    ]
    return pd.DataFrame([*sums.reset_index().to_dict("records"), *free], columns=LEDGER)


def _booked(config: Config) -> Iterator[dict[str, Any]]:
    """Every reply of a study as a row of the ledger."""
    prices = read_prices(config.judging.prices)
    for rule, judge, path in reply_journals(config):
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        for reply, model in _replies(lines):
            price = prices.get(model)
            usage = {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens}
            yield {
                "rule": rule,
                "judge": judge,
                "model": model,
                "served_as": reply.model,
                "mode": "batch" if reply.batch else "live",
                "calls": 1,
                **usage,
                "dollars": price.cost(**usage, batch=reply.batch) if price else float("nan"),
                "price_date": price.date if price else "",
                "price_source": price.source if price else "",
            }
