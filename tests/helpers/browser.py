"""A page of a report in a real browser, with a record of what went wrong on it."""

from pathlib import Path
from typing import Any

DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}


def expect(locator: Any) -> Any:
    """Playwright's assertions, which wait; imported late, since tests skip without it."""
    from playwright.sync_api import expect as found

    return found(locator)


class Reader:
    """A page with a record of what went wrong on it."""

    def __init__(self, browser: Any, folder: Path, size: dict[str, int] = DESK, **context: Any):
        self.folder = folder
        self.context = browser.new_context(viewport=size, **context)
        self.context.set_default_timeout(5_000)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type == "error" else None,
        )
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def clear(self) -> None:
        """Leave the page, and forget what went wrong on it: to open another takes a second."""
        self.page.goto("about:blank")
        self.errors.clear()
        self.requests.clear()

    def open(self, name: str = "transcripts", state: str = "") -> Any:
        self.page.goto((self.folder / f"{name}.html").as_uri() + state)
        return self.page

    def count(self) -> int:
        """Number of trials shown, as the page states it."""
        return int(self.page.locator("#count").inner_text().split()[0].replace(",", ""))
