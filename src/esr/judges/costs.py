"""Costs of replies: prices from a dated file, the amount spent, and the cap on it.

The amount spent is computed from the replies: their token counts, as the API reports them, at the
prices in the file. So it is right after any kill, and a corrected price corrects it. For a reply
without token counts, they are estimated from the lengths of its texts.
"""

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from esr.config import Config
from esr.errors import EsrError
from esr.handwritten import read_csv_rows
from esr.journal import parse_lines, read_journal
from esr.judges.bodies import UnusableReplyError, read_reply
from esr.judges.replies import Call, is_reply, reply_journals

log = logging.getLogger(__name__)

COLUMNS = ["model", "input", "output", "batch_input", "batch_output"]
COLUMNS += ["date", "source", "retires", "replacement", "note"]
FRAME = 200
"""Tokens that an API puts around the texts of a call, at most: roles, and words about a schema."""
CHARACTERS_PER_TOKEN = 4
"""Of English text; only for estimates. Bills count tokens, and bounds bytes."""


@dataclass(frozen=True)
class Price:
    """Price of a model.

    Attributes:
        input: US dollars per million tokens read.
        output: US dollars per million tokens written.
        batch_input: As `input`, in batches; equal to it if there is no batch price.
        batch_output: As `output`, in batches; likewise.
        date: Day on which it was looked up.
        source: Where it was looked up.
        retires: Day on which the model is shut down, if known.
        replacement: Model that its maker names in its place, if any.
        note: Anything else to know.
    """

    input: float
    output: float
    batch_input: float
    batch_output: float
    date: str
    source: str
    retires: str
    replacement: str
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
        EsrError: it is not a price file (`read_csv_rows`), or a price or day cannot be read.
    """
    prices: dict[str, Price] = {}
    columns, rows, lines = read_csv_rows(path)
    if columns != COLUMNS:
        raise EsrError(f"prices: {path} has columns {columns}, needs {COLUMNS}")
    for row, line in zip(rows, lines, strict=True):
        if row["model"] in prices:
            raise EsrError(f"prices: {path}, line {line}: lists {row['model']} twice; keep one")
        prices[row["model"]] = _price(row, f"prices: {path}, line {line}, {row['model']}")
    return prices


def _price(row: Mapping[str, str], where: str) -> Price:
    if not row["date"]:
        raise EsrError(f"{where}: no date; add the day it was looked up")
    try:
        live = _dollars(row["input"]), _dollars(row["output"])
        batch = (
            _dollars(row["batch_input"] or row["input"]),
            _dollars(row["batch_output"] or row["output"]),
        )
        for day in filter(None, (row["date"], row["retires"])):
            date.fromisoformat(day)
    except ValueError as error:
        raise EsrError(
            f"{where}: {error}; give dollars per million tokens, and days as 2026-11-30"
        ) from None
    facts = (row[name] for name in ("date", "source", "retires", "replacement", "note"))
    return Price(*live, *batch, *facts)


def _dollars(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(f"a price of {text}")
    return value


def price_of(model: str, prices: Mapping[str, Price], path: Path) -> Price:
    """Price of a model.

    Raises:
        EsrError: it is not in the file.
    """
    if model not in prices:
        raise EsrError(
            f"{path} has no price of model {model}; add a line with its date and source "
            "(for a server of your own: 0)"
        )
    return prices[model]


def tokens(text: str) -> float:
    """Tokens of a text, estimated."""
    return len(text) / CHARACTERS_PER_TOKEN


def max_cost(call: Call, max_tokens: int, price: Price) -> float:
    """Maximum cost of a live call, in dollars: with a reply as long as allowed.

    A token holds a byte or more, so that no text has more tokens than bytes; `FRAME` is added. What
    a call leaves of its bound is free again once it is paid, so that a wide bound costs nothing.
    """
    schema = json.dumps(call.schema) if call.schema else ""
    text = call.system + call.user + schema
    size = len(text.encode("utf-8", "surrogatepass"))
    return price.cost(size + FRAME, max_tokens, batch=False)


FREE = Price(0, 0, 0, 0, "", "run by the workflow", "", "", "")
"""Price of a judge that the workflow itself runs; its costs are hours of GPUs."""


class Budget:
    """The cap on the cost of all replies of a study, with the amount spent read from journals.

    Several jobs may run at a time: each sees the replies that the others have journaled, but not
    the calls that they have in flight.
    """

    def __init__(
        self, limit: float, prices: Mapping[str, Price], path: Path, journals: Iterable[Path]
    ):
        """Cap in dollars, prices, their file, and the journals of all replies of the study."""
        self.limit = limit
        self._prices, self._path = prices, path
        self._read_to = dict.fromkeys(journals, (0, 1))
        self._spent = 0.0

    def price(self, model: str) -> Price:
        """Price of a model; EsrError if the file has none, since a cap needs one."""
        return price_of(model, self._prices, self._path)

    @property
    def spent(self) -> float:
        """Dollars spent up to now."""
        for journal, (at, line) in self._read_to.items():
            if journal.is_file() and journal.stat().st_size > at:
                with journal.open("rb") as file:
                    file.seek(at)
                    content = file.read()
                content = content[: content.rfind(b"\n") + 1]
                self._read_to[journal] = at + len(content), line + content.count(b"\n")
                for one in _usages(parse_lines(content, journal, line)):
                    price = FREE if one.mode == "local" else self.price(one.model)
                    self._spent += price.cost(
                        one.input_tokens, one.output_tokens, one.mode == "batch"
                    )
        return self._spent

    def allows(self, dollars: float) -> bool:
        """Whether this much more may be spent."""
        return self.spent + dollars <= self.limit

    def exceeded(self, wanted: float) -> EsrError:
        """The error that ends a job at the cap; `wanted` is the next cost in dollars."""
        return EsrError(
            f"judging.budget: ${self.limit:.2f} would be exceeded: ${self.spent:.4f} are spent, "
            f"and the next calls may cost ${wanted:.4f}; every reply so far is kept. Raise the "
            "budget and run again"
        )


def study_budget(config: Config) -> Budget | None:
    """The cap of a study, if it has one."""
    judging = config.judging
    if judging.budget is None:
        return None
    journals = [path for _, _, path in reply_journals(config)]
    return Budget(judging.budget, read_prices(judging.prices), judging.prices, journals)


class Usage(NamedTuple):
    """Tokens of a reply.

    Attributes:
        model: The model of the request, by which prices are looked up.
        served_as: The model that replied, as it names itself.
        mode: `live`, `batch`, or `local`: written by the workflow itself.
        input_tokens: Tokens read.
        output_tokens: Tokens written.
        device_seconds: Seconds of a GPU (or CPU backend); 0 for an API.
        estimated: Whether the API reports no tokens, so that they are estimated.
    """

    model: str
    served_as: str
    mode: str
    input_tokens: float
    output_tokens: float
    device_seconds: float
    estimated: bool


def _usages(records: Iterable[Mapping[str, Any]]) -> Iterator[Usage]:
    """Tokens of the replies among the records of a journal."""
    systems: dict[str, str] = {}
    for record in records:
        if not is_reply(record):
            systems[record["key"]] = record.get("system", "")
            continue
        try:
            reply = read_reply(record)
        except UnusableReplyError:
            continue
        read = reply.input_tokens
        written = reply.output_tokens
        shown = systems.get(record.get("system", ""), "") + record.get("user", "")
        yield Usage(
            record["identity"]["model"],
            reply.model,
            "local" if reply.device_seconds is not None else "batch" if reply.batch else "live",
            tokens(shown) if read is None else read,
            tokens(reply.text) if written is None else written,
            reply.device_seconds or 0.0,
            read is None or written is None,
        )


LEDGER = ["rule", "judge", "model", "served_as", "mode", "calls", "input_tokens", "output_tokens"]
LEDGER += ["dollars", "device_seconds", "calls_estimated", "price_date", "price_source"]


def ledger(config: Config) -> pd.DataFrame:
    """The cost of a study's replies, one row a rule, judge and mode; a free judge has zero calls.

    Columns: rule, judge, model (id in requests), served_as (the model that replied, as it names
    itself), mode (`live`, `batch`, `local` or `free`), calls (replies received), input_tokens,
    output_tokens, dollars (missing without a price), device_seconds (of GPUs, for judges that the
    workflow runs; start-up not counted), calls_estimated (replies without token counts,
    which are estimated from lengths of text), price_date, price_source.
    """
    keys = ["rule", "judge", "model", "mode", "price_date", "price_source"]
    booked = pd.DataFrame(_booked(config), columns=LEDGER)
    sums = booked.groupby(keys, sort=True).agg(
        served_as=("served_as", lambda names: "; ".join(sorted(set(names)))),
        calls=("calls", "sum"),
        input_tokens=("input_tokens", "sum"),
        output_tokens=("output_tokens", "sum"),
        dollars=("dollars", lambda values: values.sum(skipna=False)),
        device_seconds=("device_seconds", "sum"),
        calls_estimated=("calls_estimated", "sum"),
    )
    free = [
        {"rule": "judge_responses", "judge": name, "model": judge.kind, "served_as": judge.kind}
        | {"mode": "free", "calls": 0, "input_tokens": 0, "output_tokens": 0, "dollars": 0.0}
        | {"device_seconds": 0.0, "calls_estimated": 0}
        for name, judge in config.judging.judges.items()
        if name not in config.judging.llms
    ]
    return pd.DataFrame([*sums.reset_index().to_dict("records"), *free], columns=LEDGER)


def _booked(config: Config) -> Iterator[dict[str, Any]]:
    """Every reply of a study as a row of the ledger."""
    prices = read_prices(config.judging.prices)
    for rule, judge, path in reply_journals(config):
        for one in _usages(read_journal(path).values()):
            price = FREE if one.mode == "local" else prices.get(one.model)
            used = {"input_tokens": one.input_tokens, "output_tokens": one.output_tokens}
            yield {
                "rule": rule,
                "judge": judge,
                "model": one.model,
                "served_as": one.served_as,
                "mode": one.mode,
                "calls": 1,
                **{name: round(count) for name, count in used.items()},
                "dollars": price.cost(**used, batch=one.mode == "batch") if price else float("nan"),
                "device_seconds": one.device_seconds,
                "calls_estimated": int(one.estimated),
                "price_date": price.date if price else "",
                "price_source": price.source if price else "",
            }
