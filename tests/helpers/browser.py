"""A page of a report in a real browser, with a record of what went wrong on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}


def expect(locator: Any) -> Any:
    """Playwright's assertions, which wait; imported late, since tests skip without it."""
    from playwright.sync_api import expect as found

    return found(locator)


class Reader:
    """A page with a record of what went wrong on it."""

    def __init__(self, browser: Any, folder: Path):
        self.folder = folder
        self.context = browser.new_context(viewport=DESK)
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
        """Forget what went wrong; a test takes over the page, since another takes a second."""
        self.errors.clear()
        self.requests.clear()

    @contextmanager
    def on(self, size: dict[str, int], scheme: str = "light") -> Iterator[None]:
        """Show the page on another screen, and afterwards on a desk again, in light colours."""
        self.page.set_viewport_size(size)
        self.page.emulate_media(color_scheme=scheme)
        try:
            yield
        finally:
            self.page.set_viewport_size(DESK)
            self.page.emulate_media(color_scheme="light")

    def open(self, name: str = "transcripts", state: str = "") -> Any:
        """Load a page of the report anew, in the state that its address may name (`#...`)."""
        return self.visit((self.folder / f"{name}.html").as_uri() + state)

    def visit(self, address: str) -> Any:
        """Load an address anew."""
        if "#" in address:  # a page that is open already would only change its state
            self.page.goto("about:blank")
        self.page.goto(address)
        return self.page

    def count(self) -> int:
        """Number of trials shown, as the page states it."""
        return int(self.page.locator("#count").inner_text().split()[0].replace(",", ""))
