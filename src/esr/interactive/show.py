"""Steered responses in a terminal: text by attempts, restart phrases, and a strip of detectors."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.panel import Panel
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from esr.interactive.session import Steered

BLOCKS = " ▁▂▃▄▅▆▇█"
"""Heights of the strip, from no activation to the highest."""
ATTEMPTS = ("blue", "green", "magenta", "cyan")
"""Colours of the attempts, in order; a further one begins again."""
OUTSIDE, RESTART, STRIP = Style(dim=True), Style(bold=True, underline=True), Style(color="red")
SIDE_BY_SIDE = 110
"""Columns of a terminal that holds two responses beside each other."""


@dataclass(frozen=True)
class Annotated:
    """Response wrapped to the width of its place, with a strip of detectors under each line."""

    steered: Steered
    peak: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yield lines of text and of the strip."""
        text = self.steered.response
        styles = character_styles(self.steered)
        heights = strip(self.steered, self.peak)
        for start, end in wrap(text, options.max_width):
            yield from (Segment(text[i], styles[i]) for i in range(start, end))
            yield Segment.line()
            if self.steered.detectors:
                yield Segment(heights[start:end], STRIP)
                yield Segment.line()


def character_styles(steered: Steered) -> list[Style]:
    """Style of each character: colour of its attempt, restart phrases underlined."""
    styles = [OUTSIDE] * len(steered.response)
    for number, part in enumerate(steered.attempts):
        colour = Style(color=ATTEMPTS[number % len(ATTEMPTS)])
        styles[part.start : part.end] = [colour] * (part.end - part.start)
    for part in steered.restarts:
        styles[part.start : part.end] = [s + RESTART for s in styles[part.start : part.end]]
    return styles


def strip(steered: Steered, peak: float) -> str:
    """A block for each character: activation of the detectors at its token, relative to `peak`.

    Any activation above 0 shows at least the lowest block.
    """
    heights = [BLOCKS[0]] * len(steered.response)
    highest = len(BLOCKS) - 1
    for token in steered.detectors:
        share = token.activation / peak if peak > 0 else 0.0
        level = max(1, min(highest, round(share * highest))) if token.activation > 0 else 0
        heights[token.start : token.end] = [BLOCKS[level]] * (token.end - token.start)
    return "".join(heights)


def wrap(text: str, width: int) -> list[tuple[int, int]]:
    """Character ranges of the lines of a text, broken at blanks where a line is too long."""
    lines: list[tuple[int, int]] = []
    start = end = 0
    for word in re.finditer(r"\n|[^\s]+", text):
        if word[0] == "\n":
            lines.append((start, end))
            start = end = word.end()
            continue
        if end > start and word.end() - start > width:
            lines.append((start, end))
            start = word.start()
        elif end == start:
            start = word.start()
        end = word.end()
        while end - start > width:
            lines.append((start, start + width))
            start += width
    return [*lines, (start, end)] if end > start else lines


def peak_of(several: Sequence[Steered]) -> float:
    """Highest activation of the detectors in several responses, so that their strips compare."""
    return max((token.activation for one in several for token in one.detectors), default=0.0)


def panel(steered: Steered, peak: float | None = None) -> Panel:
    """One response: condition, annotated text, scores of the attempts, restart phrases."""
    highest = peak_of([steered]) if peak is None else peak
    parts: list[RenderableType] = [Annotated(steered, highest), Text()]
    if steered.label and steered.latent is not None:
        parts.insert(0, Text(f"{steered.label}\n", style="dim italic"))
    if steered.status != "ok":
        parts.append(Text(f"status: {steered.status}", style="yellow"))
    for number, part in enumerate(steered.attempts):
        score = "-" if part.score is None else f"{part.score:.0f}"
        colour = ATTEMPTS[number % len(ATTEMPTS)]
        parts.append(Text(f"attempt {number + 1}: {score} of 100 points", style=colour))
    if steered.restarts:
        phrases = ", ".join(repr(steered.text(part)) for part in steered.restarts)
        parts.append(Text(f"restart phrases: {phrases}", style="bold"))
    if steered.corrected:
        parts.append(Text("self-correction: the last attempt scores higher", style="bold green"))
    if steered.detectors:
        parts.append(Text(f"detectors (red): full block = {highest:.4g}", style="dim"))
    title = Text(condition(steered))  # a label may contain brackets, which are no markup
    return Panel(Group(*parts), title=title, title_align="left", border_style="dim")


def condition(steered: Steered) -> str:
    """What was done to the model, in a line."""
    if steered.latent is None:
        parts = ["unsteered"]
    else:
        parts = [f"latent {steered.latent}", f"boost {steered.boost:.4g}"]
    if steered.layers:
        parts.append(f"layers {', '.join(map(str, steered.layers))}")
    if steered.window is not None:
        start, stop = steered.window
        ends = f"from token {start}" if stop is None else f"tokens {start} to {stop}"
        parts.append(f"up to token {stop}" if start is None else ends)
    if steered.ablated:
        parts.append(f"{_counted(len(steered.ablated))} {_ablation(steered)}")
    return ", ".join([*parts, f"seed {steered.seed}"])


def _counted(latents: int) -> str:
    return "1 latent" if latents == 1 else f"{latents} latents"


def _ablation(steered: Steered) -> str:
    """How latents were ablated."""
    if steered.ablated_to:
        values = sorted({f"{value:.4g}" for value in steered.ablated_to})
        return f"clamped to {values[0]}" if len(values) == 1 else "clamped"
    return "ablated" if steered.strength == 1 else f"ablated by {100 * steered.strength:.0f} %"


def compare(several: Sequence[Steered], width: int) -> RenderableType:
    """Responses beside each other, or below each other in a narrow terminal."""
    peak = peak_of(several)
    panels = [panel(one, peak) for one in several]
    if len(several) == 1 or width < SIDE_BY_SIDE:
        return Group(*panels)
    grid = Table.grid(expand=True, padding=(0, 1))
    for _ in panels:
        grid.add_column(ratio=1)
    grid.add_row(*panels)
    return grid


def overview(several: Sequence[Steered]) -> Table:
    """One row a response: boost, seed, attempts, scores, restart phrases, opening."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for name in ("boost", "seed", "attempts", "first", "last", "restarts"):
        table.add_column(name, justify="right", min_width=len(name), no_wrap=True)
    table.add_column("response", no_wrap=True, overflow="ellipsis", ratio=1)
    for one in several:
        numbers = [f"{one.boost:.4g}", str(one.seed), str(len(one.attempts) or "-")]
        numbers += [_points(one.first_score), _points(one.last_score), str(len(one.restarts))]
        text = " ".join(one.response.split()) or f"({one.status})"
        table.add_row(*numbers, Text(text), style="green" if one.corrected else "")
    return table


def summary(several: Sequence[Steered]) -> str:
    """How many steered responses correct themselves, in words."""
    steered = [one for one in several if one.boost]
    corrected = sum(one.corrected for one in steered)
    return f"{corrected} of {len(steered)} steered responses correct themselves (green)"


def _points(score: float | None) -> str:
    return "-" if score is None else f"{score:.0f}"
