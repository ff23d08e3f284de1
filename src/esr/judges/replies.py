"""Raw replies of language models, kept under what determines them.

A reply's key is the hash of the model, the API's version, every parameter and the full prompt. The
record holds all of these, and the text of the response as it came, so that a better parser reads it
again without a call. Journals of replies are `results/<study>/replies/<rule>/...`, one a job.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esr.config import Config
from esr.journal import Journal, content_key, read_journal
from esr.judges.bodies import Reply, read_reply
from esr.paths import along


@dataclass(frozen=True)
class Call:
    """What a model is shown: two texts, and the JSON Schema its reply must follow, if any.

    A `repetition` other than 0 is another call with the same content, whose reply is kept apart.
    If the schema is optional, a kept reply to the same texts without it will do.
    """

    system: str
    user: str
    schema: Mapping[str, Any] | None = None
    repetition: int = 0
    schema_is_optional: bool = False

    def key(self, identity: Mapping[str, Any]) -> str:
        """Key of the reply that a client of this identity gets."""
        shown = {"system": self.system, "user": self.user, "schema": self.schema}
        again = {"repetition": self.repetition} if self.repetition else {}
        return content_key({**identity, **shown, **again})


class Replies:
    """A journal of replies, and others that are only read.

    Nothing is written, and no lock is taken, before `open_to_write`.
    """

    def __init__(self, path: Path, others: Sequence[Path] = ()) -> None:
        """Read the journals.

        Raises:
            EsrError: a line of one of them is damaged.
        """
        self._path = path
        self._journal: Journal | None = None
        self._is_open = False
        self._records = [read_journal(one) for one in (path, *others)]

    def __contains__(self, key: str) -> bool:
        return self._record(key) is not None

    def get(self, key: str) -> Reply | None:
        """The reply with this key, if there is one."""
        record = self._record(key)
        return None if record is None else read_reply(record)

    def _record(self, key: str) -> dict[str, Any] | None:
        if self._journal is not None and key in self._journal:
            return self._journal[key]
        return next((records[key] for records in self._records if key in records), None)

    def open_to_write(self) -> None:
        """Take the journal's lock, and read what another job has written in the meantime.

        Raises:
            EsrError: another process is writing it.
        """
        if self._journal is None:
            self._journal = Journal(self._path)
            self._is_open = True
        elif not self._is_open:
            self._journal.reopen()
            self._is_open = True

    def add(self, records: Iterable[Mapping[str, Any]], call_of: Mapping[str, Call]) -> None:
        """Append raw replies, each with its call if that is still known.

        The system text, the same in all calls of a rubric, is a record of its own.
        """
        lines: list[Mapping[str, Any]] = []
        for record in records:
            call = call_of.get(record["key"])
            if call is None:  # a batch from before the judge was changed: paid, so kept
                lines.append(record)
                continue
            system = content_key({"system": call.system})
            lines.append({"key": system, "system": call.system})
            lines.append({**record, "system": system, "user": call.user, "schema": call.schema})
        self.open_to_write()
        assert self._journal is not None
        self._journal.append(lines)

    def close(self) -> None:
        """Release the lock, if it was taken; the replies remain readable."""
        if self._journal is not None:
            self._journal.close()
            self._is_open = False


def is_reply(record: Mapping[str, Any]) -> bool:
    """Whether a record is a reply; others hold system texts and unusable responses."""
    return "raw" in record or "body" in record


def reply_journals(config: Config) -> list[tuple[str, str, Path]]:
    """Rule, judge and path of every journal of replies that a study may have."""
    folder = Path(f"results/{config.study}/replies")
    found = []
    for judge in config.judging.llms:
        for model in config.models:
            rules = []
            for number in config.judging_rounds(model):
                name = f"{judge}-{number}" if number else judge
                path = folder / "judge_arms" / model / f"{name}.jsonl"
                found.append(("judge_arms", judge, path))
            for directions in config.searches(model):
                path = folder / "find_thresholds" / model / f"{along(directions)}{judge}.jsonl"
                found.append(("find_thresholds", judge, path))
            if model in config.base_models:
                rules += ["rate_concreteness", "annotate_boundaries"]
            for rule in rules:
                found.append((rule, judge, folder / rule / model / f"{judge}.jsonl"))
            for arm in config.arms_of(model):
                path = folder / "judge_responses" / model / arm / f"{judge}.jsonl"
                found.append(("judge_responses", judge, path))
        for rule in ("judge_sample", "retest_sample", "write_examples", "judge_examples"):
            found.append((rule, judge, folder / rule / f"{judge}.jsonl"))
    return found
