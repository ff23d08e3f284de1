"""A model with its SAE, judge and detectors: it generates steered responses, one or several."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from esr.arms.attempts import LOST
from esr.arms.chat import prompt_tokens, response_text
from esr.arms.plan import clamped_to
from esr.arms.responses import response_status
from esr.arms.restarts import find_restarts
from esr.engines.base import (
    EncodeRequest,
    Engine,
    Generation,
    Request,
    Sampling,
    check_latents,
    generate_all,
)
from esr.episodes.tokens import token_spans
from esr.errors import EsrError
from esr.interactive.change import Change, Ends, How, change_of, checked
from esr.judges.base import Judge, JudgeInput, Judgment

if TYPE_CHECKING:
    from esr.interactive.study import Study


@dataclass(frozen=True)
class Part:
    """A part of a response: characters `start` to `end`; the score (0-100) of an attempt."""

    start: int
    end: int
    score: float | None = None


@dataclass(frozen=True)
class TokenActivation:
    """A token of a response: its characters, and the summed activation of the detectors."""

    start: int
    end: int
    activation: float


@dataclass(frozen=True)
class Steered:
    """A response under an intervention.

    Attributes:
        model: Name of the model.
        prompt: The user turn.
        latent: Steered latent; None = not steered.
        label: Its label, if it has one.
        boost: Boost (decoder units).
        ablated: Latents that were ablated or clamped.
        seed: Sampling seed.
        status: `ok`, or why there is no response or no score.
        response: Text of the response.
        finish_reason: `stop`, `length` or `error`.
        attempts: Attempts that the judge found, in order.
        restarts: Restart phrases, found without a judge.
        detectors: Activation of the off-topic detectors at each token; empty without detectors.
        ablated_to: What each ablated latent was clamped to; empty: they were removed.
        strength: Share of their contribution that was removed.
        layers: Layers at which the boost was added; empty: `steer_layer`.
        window: Tokens at which it was added, where 0 is the first one of the response; None = all.
    """

    model: str
    prompt: str
    latent: int | None
    label: str | None
    boost: float
    ablated: tuple[int, ...]
    seed: int
    status: str
    response: str
    finish_reason: str
    attempts: tuple[Part, ...]
    restarts: tuple[Part, ...]
    detectors: tuple[TokenActivation, ...]
    ablated_to: tuple[float, ...] = ()
    strength: float = 1.0
    layers: tuple[int, ...] = ()
    window: Ends | None = None

    @property
    def first_score(self) -> float | None:
        """Score of the first attempt (points); None without attempts."""
        return self.attempts[0].score if self.attempts else None

    @property
    def last_score(self) -> float | None:
        """Score of the last attempt (points); None without attempts."""
        return self.attempts[-1].score if self.attempts else None

    @property
    def corrected(self) -> bool:
        """Two attempts or more, the last of which scores higher than the first: ESR."""
        first, last = self.first_score, self.last_score
        return first is not None and last is not None and len(self.attempts) > 1 and last > first

    def text(self, part: Part) -> str:
        """Text of a part of the response."""
        return self.response[part.start : part.end]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with scores and texts of the parts, for JSON."""
        found = asdict(self)
        for name in ("attempts", "restarts"):
            parts = getattr(self, name)
            found[name] = [asdict(part) | {"text": self.text(part)} for part in parts]
        scores = {"first_score": self.first_score, "last_score": self.last_score}
        return found | scores | {"corrected": self.corrected}

    def __rich__(self) -> Any:
        """Show it in a terminal or a notebook: `rich.print(steered)`."""
        from esr.interactive.show import panel

        return panel(self)


@dataclass(frozen=True)
class Session:
    """A model of a study, ready to generate; see `Study.engine`."""

    study: "Study"
    model: str
    tokenizer: Any
    engine: Engine
    sampling: Sampling
    judge: Judge | None
    phrases: re.Pattern[str]
    d_sae: int

    def threshold(self, latent: int) -> float:
        """Boost (decoder units) at the latent's threshold; see `Study.threshold`."""
        return self.study.threshold(self.model, latent, self.d_sae)

    def generate(
        self,
        prompt: str,
        latent: int | None = None,
        boost: float | str = "threshold",
        ablate: Sequence[int] | str = (),
        seed: int | None = None,
        **how: Unpack[How],
    ) -> Steered:
        """Generate and judge one response.

        Args:
            prompt: The user turn, such as "Explain how to compose a melody."
            latent: Latent to steer; None = no steering.
            boost: Multiple of its decoder row (decoder units), or `threshold`.
            ablate: Latents to ablate, `detectors`, or `random-<i>`.
            seed: Sampling seed; None = `seeds.generation` of the study.
            **how: See `esr.interactive.change.How`: `ablate_to`, `strength`, `layers`, `window`.

        Raises:
            EsrError: a latent is not in the SAE, it has no threshold, the model has no detectors,
                the boost is not a number, or an arm could not have these settings.
        """
        request = self.request(prompt, latent, boost, ablate, seed, **how)
        return self.generate_many([request], prompt)[0]

    def sweep(
        self,
        prompt: str,
        latent: int,
        boosts: Sequence[float],
        ablate: Sequence[int] | str = (),
        seed: int | None = None,
        **how: Unpack[How],
    ) -> list[Steered]:
        """Generate one response at each boost (decoder units), with the same seed."""
        requests = [self.request(prompt, latent, boost, ablate, seed, **how) for boost in boosts]
        return self.generate_many(requests, prompt)

    def request(
        self,
        prompt: str,
        latent: int | None = None,
        boost: float | str = "threshold",
        ablate: Sequence[int] | str = (),
        seed: int | None = None,
        **how: Unpack[How],
    ) -> Request:
        """Check settings and make a request of them; see `generate`."""
        listed = self.study.ablated(self.model, ablate) if isinstance(ablate, str) else ablate
        check_latents([*listed, *(() if latent is None else (latent,))], self.d_sae)
        if not prompt.strip():
            raise EsrError("the prompt is empty; give a question or an instruction")
        change = self._change(latent, boost, tuple(int(k) for k in listed), how)
        config = self.study.config
        tokens = prompt_tokens(
            self.tokenizer, prompt, doubled_header=config.generation.doubled_header
        )
        default = config.seeds.generation
        intervention = change.intervention(len(tokens))
        return Request(tokens, default if seed is None else seed, intervention)

    def _change(
        self, latent: int | None, boost: float | str, ablated: tuple[int, ...], how: How
    ) -> Change:
        """The settings of a request, which an arm could have."""
        arm = checked(latent, ablated, how)
        means = self.study.means(self.model) if arm.ablate_to == "mean" else {}
        start, stop = how.get("window") or (None, None)
        longest = self.sampling.max_new_tokens
        if start is not None and start >= longest:
            raise EsrError(
                f"window: starts at token {start}, but a response has at most {longest} tokens, so "
                "that nothing is steered; lower it"
            )
        if latent is None and boost not in ("threshold", 0):
            raise EsrError(f"boost {boost}: multiplies the row of a latent, but none is steered")
        if start is None and not self.study.config.steering.prompt:
            start = 0  # as in arms: where the prompt is not steered, unless a window includes it
        return Change(
            latent=latent,
            boost=0.0 if latent is None else self.boost(latent, boost),
            ablated=ablated,
            ablated_to=tuple(clamped_to(arm, ablated, means) or ()),
            strength=1.0 if arm.strength is None else arm.strength,
            layers=arm.layers or (),
            window=None if start is None and stop is None else (start, stop),
        )

    def generate_many(self, requests: Sequence[Request], prompt: str) -> list[Steered]:
        """Generate and judge responses to one prompt; requests are those of `request`."""
        done = generate_all(self.engine, requests, self.sampling)
        statuses = [response_status(one, self.tokenizer) for one in done]
        texts = [
            response_text(self.tokenizer, one.tokens) if status == "ok" else None
            for one, status in zip(done, statuses, strict=True)
        ]
        labels = self.study.labels(self.model)
        changes = [change_of(r.intervention, len(r.tokens)) for r in requests]
        names = [labels.get(-1 if c.latent is None else c.latent) for c in changes]
        judged = self._judge(prompt, texts, names)
        traces = self._detectors(requests, done, texts)
        found = []
        for i, (request, one) in enumerate(zip(requests, done, strict=True)):
            text, judgment = texts[i] or "", judged[i]
            change = changes[i]
            found.append(
                Steered(
                    model=self.model,
                    prompt=prompt,
                    latent=change.latent,
                    label=names[i],
                    boost=change.boost,
                    ablated=change.ablated,
                    seed=request.seed,
                    status=statuses[i] if judgment is None else judgment.status,
                    response=text,
                    finish_reason=one.finish_reason,
                    attempts=_located(judgment),
                    restarts=tuple(Part(*span) for span in find_restarts(self.phrases, text)),
                    detectors=traces[i],
                    ablated_to=change.ablated_to,
                    strength=change.strength,
                    layers=change.layers,
                    window=change.window,
                )
            )
        return found

    def boost(self, latent: int, boost: float | str = "threshold") -> float:
        """A boost as a number (decoder units): itself, or the latent's threshold."""
        if boost == "threshold":
            return self.threshold(latent)
        try:
            return float(boost)
        except ValueError:
            raise EsrError(f"boost {boost!r}: give a number or `threshold`") from None

    def _judge(
        self, prompt: str, texts: Sequence[str | None], labels: Sequence[str | None]
    ) -> list[Judgment | None]:
        """Judgments of the responses; None for one that does not exist, or without a judge."""
        shown = [
            JudgeInput(prompt, text, label, prompt)
            for text, label in zip(texts, labels, strict=True)
            if text is not None
        ]
        judged = iter(self.judge.judge(shown) if self.judge and shown else [None] * len(shown))
        return [None if text is None else next(judged) for text in texts]

    def _detectors(
        self,
        requests: Sequence[Request],
        done: Sequence[Generation],
        texts: Sequence[str | None],
    ) -> list[tuple[TokenActivation, ...]]:
        """Summed activation of the detectors at every token of each response."""
        found: list[tuple[TokenActivation, ...]] = [()] * len(requests)
        latents = self.study.detectors(self.model)
        ok = [i for i, text in enumerate(texts) if text and done[i].tokens]
        if not latents or not ok:
            return found
        passes = [
            EncodeRequest(
                (*requests[i].tokens, *done[i].tokens),
                len(requests[i].tokens),
                requests[i].intervention,
            )
            for i in ok
        ]
        encoded = self.engine.encode(passes, latents, pool=None)
        for i, activations in zip(ok, encoded, strict=True):
            spans = token_spans(self.tokenizer, done[i].tokens)
            sums = np.asarray(activations).sum(axis=1).tolist()
            pairs = zip(spans, sums, strict=True)
            found[i] = tuple(TokenActivation(*span, value) for span, value in pairs)
        return found


def _located(judgment: Judgment | None) -> tuple[Part, ...]:
    """Attempts that are located in the response; others do not count (`esr.arms.attempts`)."""
    if judgment is None or judgment.status != "ok":
        return ()
    return tuple(
        Part(attempt.start, attempt.end, attempt.score)
        for attempt in judgment.attempts
        if attempt.located not in LOST and attempt.start is not None and attempt.end is not None
    )
