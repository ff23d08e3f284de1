"""How many calls to have in flight: as many as a service takes, found while calls are sent.

Additive increase, multiplicative decrease, as in TCP (Jacobson 1988). The level rises by half
during each reply until the service refuses a call or slows down. Then it falls by a share, and
grows in steps in proportion to the level of the refusal. Calls are spread over the time of a reply,
because services enforce a limit per minute in short pieces. Times are in seconds, of one clock.
"""

import math

START = 16
"""Calls in flight at first, within the configured bounds."""
GROWTH = 0.5
"""Increase with every reply, before there was a refusal."""
DECREASE = 0.9
"""Share of the level that is kept at a refusal, or when the service slows down."""
LOWEST_DECREASE = 0.5
"""Share that is kept at least, however many calls are refused at the same time."""
STEP = 0.015
"""Increase during one reply, as a share of the level of the last refusal."""
FEW = 10
"""Level below which steps are as small as at it, so that few calls do not mean many refusals."""
BEYOND = 1.25
"""Ratio to the level of the last refusal from which the level grows as before any refusal."""
ROOM = 1.25
"""Calls in flight over the level: replies take unequal times, and the pace limits the rate."""
USED = 0.75
"""Share of the level that has to be in flight for a reply to raise it."""
HURRY = 0.5
"""Time between calls before any refusal, as a share of the one that spreads the level evenly."""
LATE = 0.01
"""Seconds that a late call may make up for."""
GUESS = 1.0
"""Seconds that a reply is taken to need before there was one."""
SMOOTHING = 0.1
"""Weight of a reply in the smoothed latency."""
ROUND = 20
"""Least number of replies of which a mean latency is taken."""
SLOWER = 2.0
"""Ratio of the mean latency to the lowest one at which a service counts as overloaded."""
FORGETTING = 1.005
"""Factor by which the lowest mean latency rises with each mean above it."""


class Level:
    """The level of one service. Its owner reports what becomes of each call."""

    def __init__(self, least: int, most: int) -> None:
        """Find a level between two bounds; equal bounds fix it."""
        self.least, self.most = least, most
        self.window = float(min(max(START, least), most))
        """The level: calls in flight, on average."""
        self._refused_at: float | None = None
        self._decreased = -math.inf
        self._next = -math.inf
        self._latency: float | None = None
        self._lowest: float | None = None
        self._sum, self._count = 0.0, 0

    @property
    def is_fixed(self) -> bool:
        """Whether there is nothing to find."""
        return self.least == self.most

    def wait(self, now: float, in_flight: int) -> float | None:
        """Seconds until the next call may be sent; None if one in flight has to end first."""
        if in_flight >= min(math.ceil(ROOM * self.window), self.most):
            return None
        return max(self._next - now, 0.0)

    def sent(self, now: float) -> None:
        """Take note of a call that is sent."""
        if self.is_fixed or (self._latency is None and self._refused_at is None):
            return
        pace = 1.0 if self._refused_at is not None else HURRY
        gap = pace * (self._latency or GUESS) / self.window
        self._next = max(self._next, now - LATE) + gap

    def replied(self, now: float, sent: float, in_flight: int) -> None:
        """Take note of a reply.

        Args:
            now: The time.
            sent: When its call was sent.
            in_flight: Calls in flight, this one included.
        """
        if self.is_fixed:
            return
        latency = now - sent
        smoothed = latency if self._latency is None else self._latency
        self._latency = smoothed + SMOOTHING * (latency - smoothed)
        if in_flight >= USED * self.window:  # otherwise the level is not what limits
            self._increase()
        self._check_latency(now, latency)

    def refused(self, now: float, sent: float, in_flight: int, pause: float = 0.0) -> None:
        """Take note of a call that was refused because there are too many (HTTP 429, 503, 529).

        Args:
            now: The time.
            sent: When the call was sent.
            in_flight: Other calls in flight: those that the service has taken.
            pause: Seconds for which the service wants no call.
        """
        if self.is_fixed:
            return
        if sent >= self._decreased + (self._latency or GUESS):
            self._decrease(now)
        elif self._refused_at is not None:  # one more of the same refusal
            kept = max(in_flight, LOWEST_DECREASE * self._refused_at, self.least)
            self.window = min(self.window, kept)
        self._next = max(self._next, now + pause)

    def _increase(self) -> None:
        at = self._refused_at
        if at is None or self.window > BEYOND * at:
            step = GROWTH
        else:
            step = STEP * at / max(self.window, FEW)
        self.window = min(self.window + step, self.most)

    def _decrease(self, now: float) -> None:
        self._refused_at = self.window
        self._decreased = now
        self.window = max(DECREASE * self.window, self.least)

    def _check_latency(self, now: float, latency: float) -> None:
        """Decrease the level if replies take much longer than they did at their fastest."""
        self._sum += latency
        self._count += 1
        if self._count < max(ROUND, self.window):
            return
        mean = self._sum / self._count
        self._sum, self._count = 0.0, 0
        if self._lowest is None or mean < self._lowest:
            self._lowest = mean
            return
        self._lowest *= FORGETTING
        if mean > SLOWER * self._lowest:
            self._decrease(now)
