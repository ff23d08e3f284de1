"""Readouts of trials: requests, and the table of log-probabilities by name."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from esr.engines.base import Request
from esr.engines.readouts import LogProbs, ReadoutRequest, summed
from esr.tables import TABLES

Names = Mapping[str, tuple[int, ...]]
"""Token ids by name (`esr.engines.readouts.named_tokens`)."""


def readout_requests(requests: Sequence[Request], names: Names) -> list[ReadoutRequest]:
    """Read every named token before the first generated one of each request."""
    targets = tuple(token for ids in names.values() for token in ids)
    return [ReadoutRequest(one.tokens, targets, one.intervention) for one in requests]


def readouts_table(
    trials: Sequence[str],
    requests: Sequence[ReadoutRequest],
    found: Sequence[LogProbs | None],
    names: Sequence[Names],
) -> pd.DataFrame:
    """Assemble the table `readouts`: one row a trial and name; a failure is a status.

    Args:
        trials: Ids of the trials.
        requests: Their requests.
        found: Their readouts; None where the logits were not finite.
        names: Names of each trial's tokens, all among the targets of its request.
    """
    rows = []
    for trial, request, log_probs, named in zip(trials, requests, found, names, strict=True):
        status = "engine_error" if log_probs is None else "ok"
        for name, value in summed(log_probs, request.targets, named).items():
            log_prob = None if np.isnan(value) else value
            rows.append((trial, name, status, log_prob))
    table = pd.DataFrame(rows, columns=list(TABLES["readouts"].columns))
    return table.astype({"log_prob": "Float64"})


def not_read(trials: Sequence[str], names: Sequence[str], status: str) -> pd.DataFrame:
    """The table `readouts` of trials that are not run, for the reason that `status` names."""
    rows = [(trial, name, status, None) for trial in trials for name in names]
    table = pd.DataFrame(rows, columns=list(TABLES["readouts"].columns))
    return table.astype({"log_prob": "Float64"})
