"""Checks of judges before a run: can they be called, and will they be there until the end?"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from math import ceil
from typing import TYPE_CHECKING

from esr.assets.hub import check_repository, is_commit_at_hand
from esr.config import ApiConfig, Config, LlmConfig, VllmJudgeConfig
from esr.errors import EsrError
from esr.journal import read_journal
from esr.planning.hours import estimate_compute, profile_hours

if TYPE_CHECKING:
    from esr.judges.costs import Price

QUEUE = timedelta(days=1)
"""Time in the queue, beyond the estimate."""
BATCHES = timedelta(days=3)
"""Batches take up to a day; ratings, judgments of the arms and of the sample follow each other."""
SAME = re.compile(r"(-[\d-]+|@.+|:[a-z]+)?")
"""What a model may add to its name and remain the same: a date, a commit, a price class."""
IN_ITS_PLACE = "a judge of `kind: vllm`, which never retires (docs/judges.md)"


def check_judges(config: Config, names: Iterable[str], today: date | None = None) -> Iterator[str]:
    """Check that judges can be called: rubric, key, address, model, price; yield a line for each.

    Costs nothing. Judges that are no language models need no check.

    Args:
        config: The study.
        names: The judges.
        today: Day of the check; the current one if None.

    Raises:
        EsrError: the first thing that is not in order, with its key and remedy: among others a
            model that is retired, or whose kept replies come from another model.
    """
    wanted = {name: config.judging.llms[name] for name in names if name in config.judging.llms}
    if not wanted:
        return
    # Imported here: most studies are judged without these SDKs, which are slow to import.
    from esr.judges.costs import price_of, read_prices

    prices = read_prices(config.judging.prices)
    day = today or date.today()
    for name, settings in wanted.items():
        where = f"judging.judges.{name}"
        try:
            if isinstance(settings, VllmJudgeConfig):
                yield f"judge {name}: {_check_local(config, settings)}"
                continue
            if config.judging.budget is not None:
                price_of(settings.model, prices, config.judging.prices)
            refuse_other_models(config, name, settings)
            price = prices.get(settings.model)
            shown = _check_api(config, settings, price, day)
        except EsrError as error:
            raise EsrError(f"{where}: {error}") from None
        cost = f"price of {price.date}" if price else f"no price in {config.judging.prices}"
        yield f"judge {name}: {shown}, {cost}"


def _check_local(config: Config, settings: VllmJudgeConfig) -> str:
    """Check a judge that the workflow runs; what it is, in words."""
    from esr.judges.llm import check_llm
    from esr.judges.rubrics import read_rubric

    if settings.is_local or is_commit_at_hand(settings.source, str(settings.revision)):
        check_llm(settings)
    else:
        read_rubric(settings.rubric).call(prompt="", response="")
        check_repository("source", settings.source, "revision", settings.revision)
    commit = f" at {settings.revision[:7]}" if settings.revision else ""
    gpus = config.judge_gpus(settings)
    place = f"{gpus} GPUs" if gpus else "the CPU"
    return f"{settings.source}{commit}, run by the workflow on {place}: no key, no dollars"


def _check_api(config: Config, settings: ApiConfig, price: "Price | None", today: date) -> str:
    """Check a judge behind an API; what it is, in words, with its last day."""
    from esr.judges.llm import check_llm

    listed = price.retires if price else ""
    _refuse_retired(settings.model, listed, price, today)
    # A provider that lists the last day of its models knows it better than a file.
    last = check_llm(settings) or listed
    _refuse_retired(settings.model, last, price, today)
    shown = f"{settings.model} at {settings.base_url}"
    if last:
        shown += f", which retires on {last}"
    end = expected_end(config, today) if last else today
    if last and date.fromisoformat(last) <= end:
        shown += f", before the study is expected to end ({end}): take {_successor(price)}"
    return shown + (f" ({price.note})" if price and price.note else "")


def _refuse_retired(model: str, last: str, price: "Price | None", today: date) -> None:
    if last and date.fromisoformat(last) < today:
        then = f" ({price.note})" if price and price.note else ""
        raise EsrError(
            f"{model} retired on {last}{then}; take {_successor(price)}. Replies that are kept "
            "remain readable"
        )


def _successor(price: "Price | None") -> str:
    named = f"{price.replacement}, or " if price and price.replacement else ""
    return named + IN_ITS_PLACE


def expected_end(config: Config, today: date) -> date:
    """Day on which a study that starts today is expected to end."""
    table = estimate_compute(config)
    hours = profile_hours(table)[0] if len(table) else 0.0
    judges = config.judging.llms.values()
    batches = any(judge.kind == "anthropic" and judge.mode == "batch" for judge in judges)
    return today + timedelta(days=ceil(hours / 24)) + QUEUE + (BATCHES if batches else timedelta())


def refuse_other_models(config: Config, name: str, settings: LlmConfig) -> None:
    """Raise if kept replies of a judge come from another model than the one requested.

    Raises:
        EsrError: with the names that the replies give themselves, and their number.
    """
    from esr.judges.replies import reply_journals

    counts: dict[str, int] = {}
    for _, judge, path in reply_journals(config):
        if judge == name and path.is_file():
            for served in _served(read_journal(path).values(), settings.model):
                counts[served] = counts.get(served, 0) + 1
    if counts:
        listed = ", ".join(f"{count} as {served}" for served, count in sorted(counts.items()))
        raise EsrError(
            f"{settings.model} does not answer any more: kept replies come from other models "
            f"({listed}). Compare the two with `snakemake bridge`, and name the model that you "
            f"mean, or take {IN_ITS_PLACE}"
        )


def _served(records: Iterable[Mapping[str, object]], requested: str) -> Iterator[str]:
    """Names of other models that replied to requests for one."""
    from esr.judges.bodies import UnusableReplyError, read_reply
    from esr.judges.replies import is_reply

    for record in records:
        identity = record.get("identity")
        if not is_reply(record) or not isinstance(identity, Mapping):
            continue
        if identity["model"] != requested:
            continue  # the judge had another model then
        try:
            served = read_reply(record).model
        except UnusableReplyError:
            continue
        if not is_same_model(requested, served):
            yield served


def is_same_model(requested: str, served: str) -> bool:
    """Whether a reply's own name fits the model that was requested.

    A date, a commit or a provider may be added, a maker left out; `-lite` or `-mini` makes another
    model.
    """
    wanted, found = (name.split(" (")[0].rsplit("/", 1)[-1].lower() for name in (requested, served))
    long, short = sorted((wanted, found), key=len, reverse=True)
    if not long.startswith(short):
        return False
    rest = long[len(short) :]
    return SAME.fullmatch(rest) is not None
