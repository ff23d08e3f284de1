"""Progress of a long job: a bar on a terminal, about ten lines in a log."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

log = logging.getLogger(__name__)

LINES = 10
"""Lines in a log, at most."""


@contextmanager
def progress(total: int, units: str) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` units are done; yields a function to call with each number done.

    Args:
        total: Number of units.
        units: What they are, in the plural.
    """
    done = 0
    with (
        logging_redirect_tqdm(),
        tqdm(total=total, unit=f" {units}", disable=None, leave=False) as bar,
    ):

        def advance(count: int) -> None:
            nonlocal done
            bar.update(count)
            before, done = done, done + count
            if bar.disable and total > 1 and LINES * done // total > LINES * before // total:
                log.info("%d of %d %s", done, total, units)

        yield advance
