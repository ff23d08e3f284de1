"""How quick the transcript browser of a report is, in headless Chromium from disk.

    uv run python benchmarks/report.py results/organism/report

Logs the median of five runs, in milliseconds: from the start of the page to its first list; from a
filter to the list it leaves; from a click to the transcript. And the elements drawn in the list.
"""

import logging
import shutil
import sys
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import sync_playwright

log = logging.getLogger(__name__)

RUNS = 5
FILTER = """() => {
  const control = document.querySelector('[name=q]');
  control.value = control.value ? '' : 'how to';
  const start = performance.now();
  control.dispatchEvent(new Event('input', {bubbles: true}));
  document.querySelector('#rows').getBoundingClientRect();
  return performance.now() - start;
}"""
OPEN = """async () => {
  const start = performance.now();
  document.querySelector('.trial').click();
  while (!document.querySelector('.response')) await new Promise(requestAnimationFrame);
  return performance.now() - start;
}"""


def measure(page: Any, address: str) -> dict[str, float]:
    """One visit: milliseconds to list, filter and transcript; trials; elements drawn."""
    page.goto(address)
    page.locator(".trial").first.wait_for()
    found = {"list": page.evaluate("performance.now()")}
    found["filter"] = max(page.evaluate(FILTER) for _ in range(4))
    found["transcript"] = page.evaluate(OPEN)
    found["trials"] = page.evaluate("index.count")
    found["drawn"] = page.locator("#rows *").count()
    return found


def main(folder: Path) -> None:
    """Visit the report a few times and log the medians."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        address = (folder.resolve() / "transcripts.html").as_uri()
        visits = [measure(browser.new_context().new_page(), address) for _ in range(RUNS)]
        browser.close()
    for name in visits[0]:
        log.info("%-10s %8.0f", name, median(visit[name] for visit in visits))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
