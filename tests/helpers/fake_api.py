"""A fake of the two APIs, for tests that drive the real SDKs.

It serves Anthropic's Messages, Message Batches and Models and an OpenAI-compatible chat completions
API, as far as judges use them, and behaves as documented: temperature is refused under newer
versions of the API, batches end after a while, their results come in any order. Faults are
scripted (`faults`, one a POST; `batch_faults`, one a GET of a batch or of its results) or random
(`fault_rate`). Delivered replies are counted. `edit` changes the body of a reply before it is sent.
`limit` is a number of calls a second, as a bucket that holds one second's worth; calls beyond it
are refused at once, the others have their times in `accepted`. `redirect` is an address to which
everything is redirected. With `drip`, a reply arrives a byte at a time, so many seconds apart.
"""

import asyncio
import hashlib
import json
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any, NamedTuple

CLAUDE, QWEN = "claude-haiku-4-5-20251001", "qwen/qwen3-32b"
ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
RANDOM_FAULTS: list[int | str] = [429, 529, 500, "drop", "malformed", "truncated"]
RESTART = re.compile(r"wait, that's not right", re.IGNORECASE)


class ModelReply(NamedTuple):
    """Text of the model, and its stop reason."""

    text: str
    stop: str = "end_turn"


class Request(NamedTuple):
    """A request as received."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class ApiError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def shown_response(user: str) -> str:
    """The response in a call, between its delimiters with or without a nonce."""
    after = re.split(r"<response(?:-[0-9a-f]{16})?>\n", user, maxsplit=1)[-1]
    return re.split(r"\n</response(?:-[0-9a-f]{16})?>", after)[0].strip()


def judge_reply(user: str, structured: bool = False) -> ModelReply:
    """A judge that cuts at "Wait, that's not right" and scores by a hash of the text."""
    response = shown_response(user)
    cut = RESTART.search(response)
    parts = [response] if cut is None else [response[: cut.start()], response[cut.start() :]]
    attempts = [
        {"text": part.strip(), "score": hashlib.sha256(part.encode()).digest()[0] % 101}
        for part in parts
    ]
    body = json.dumps({"attempts": attempts})
    return ModelReply(body if structured else f"Some feedback.\n<json>{body}</json>")


class FakeApi:
    """The server, in a thread of its own: `with FakeApi() as api: ... api.url`."""

    def __init__(
        self,
        reply: Callable[[str, bool], ModelReply] = judge_reply,
        *,
        fault_rate: float = 0.0,
        key: str = "test-key",
        models: tuple[str, ...] = (CLAUDE, QWEN),
        takes_temperature: bool = True,
        latency: float = 0.0,
        polls: int = 1,
        seed: int = 0,
        limit: float | None = None,
    ) -> None:
        self.reply, self.fault_rate, self.key, self.models = reply, fault_rate, key, models
        self.takes_temperature, self.latency, self.polls = takes_temperature, latency, polls
        self.faults: deque[int | str | None] = deque()
        self.requests: list[Request] = []
        self.injected: Counter[int | str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.usage: Counter[str] = Counter()
        self.retry_after = 0.02
        self.batches: dict[str, dict[str, Any]] = {}
        self.outcomes: dict[str, deque[str]] = {}
        self.cuts: deque[int] = deque()
        self.batch_faults: deque[int | None] = deque()
        self.list_lags = 0
        self.done_at_cancel = 0
        self.clock_offset = 0.0
        self.error_type = ""
        self.edit: Callable[[str, bytes], bytes] = lambda user, body: body
        self.in_flight, self.max_in_flight = 0, 0
        self.limit = limit
        self.redirect = ""
        self.results_url = ""
        self.drip = 0.0
        self.accepted: list[float] = []
        self._tokens, self._filled = limit or 0.0, time.monotonic()
        self._rng = random.Random(seed)
        self._ready = threading.Event()

    # Server

    def __enter__(self) -> "FakeApi":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        start = asyncio.start_server(self._serve, "127.0.0.1", 0)
        server = self._loop.run_until_complete(start)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        open_tasks = asyncio.all_tasks(self._loop)
        for task in open_tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*open_tasks, return_exceptions=True))
        self._loop.close()

    def count(self, path: str, method: str = "POST") -> int:
        """Number of requests received."""
        return sum(one.path == path and one.method == method for one in self.requests)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers = {}
                while (line := await reader.readline()) not in (b"\r\n", b""):
                    name, value = line.decode().split(":", 1)
                    headers[name.lower()] = value.strip()
                length = int(headers.get("content-length", 0))
                raw = await reader.readexactly(length)
                request = Request(method, target.split("?")[0], headers, json.loads(raw or b"null"))
                if not await self._respond(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _respond(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        """Respond to a request; whether the connection stays open."""
        self.requests.append(request)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            if self.redirect:
                return _write(writer, 307, b"", {"location": self.redirect + request.path})
            if (lacking := self._lacking(request)) > 0:
                self.injected["limit"] += 1
                pause = {"retry-after-ms": f"{1000 * lacking / (self.limit or 1):.0f}"}
                return _write(writer, 429, _error(429, "limit"), pause)
            if self.latency:
                await asyncio.sleep(self.latency)
            if self.drip:
                await _drip(writer, self.drip)
            return self._send(request, writer)
        finally:
            self.in_flight -= 1
            await writer.drain()

    # Faults

    def _lacking(self, request: Request) -> float:
        """Calls by which the bucket of the limit is short of one; takes a call if it is not."""
        if request.method != "POST":
            return 0.0
        now = time.monotonic()
        if self.limit is None:
            self.accepted.append(now)
            return 0.0
        self._tokens = min(self._tokens + self.limit * (now - self._filled), self.limit)
        self._filled = now
        if self._tokens < 1:
            return 1 - self._tokens
        self._tokens -= 1
        self.accepted.append(now)
        return 0.0

    def _fault(self, request: Request) -> int | str | None:
        if request.method != "POST":
            return None
        if self.faults:
            return self.faults.popleft()
        if self._rng.random() < self.fault_rate:
            return self._rng.choice(RANDOM_FAULTS)
        return None

    def _send(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        fault = self._fault(request)
        self.injected[fault or "none"] += 1
        if isinstance(fault, int):
            return _write(
                writer,
                fault,
                _error(fault, "injected"),
                {"retry-after-ms": f"{1000 * self.retry_after:.0f}"},
            )
        if fault == "drop":
            return False
        if fault == "malformed":
            return _write(writer, 200, b'<html>{"type": "mess')
        try:
            body = self._route(request)
        except ApiError as error:
            return _write(writer, error.status, _error(error.status, error.message))
        if fault == "lost":  # processed, but the response never arrives
            return False
        if fault == "truncated":
            return _write(writer, 200, body, cut=len(body) // 2)
        if request.path.endswith("/results") and self.cuts:
            lines = body.splitlines(keepends=True)
            return _write(writer, 200, body, cut=len(b"".join(lines[: self.cuts.popleft()])) + 5)
        if request.path.endswith(("/messages", "/completions")):
            self._count(request.body, json.loads(body)["usage"])
            body = self.edit(request.body["messages"][-1]["content"], body)
        date = formatdate(time.time() + self.clock_offset, usegmt=True)
        ids = {"request-id": "req-1", "x-request-id": "req-1", "date": date}
        return _write(writer, 200, body, ids)

    def _count(self, body: Any, usage: dict[str, int]) -> None:
        self.delivered[body["messages"][-1]["content"]] += 1
        anthropic = "input_tokens" in usage
        read = usage["input_tokens" if anthropic else "prompt_tokens"]
        written = usage["output_tokens" if anthropic else "completion_tokens"]
        self.usage.update(calls=1, input_tokens=read, output_tokens=written)

    # Endpoints

    def _route(self, request: Request) -> bytes:
        method, path, headers, body = request
        if self.key not in (headers.get("x-api-key", ""), headers.get("authorization", "")[7:]):
            sent = headers.get("authorization", headers.get("x-api-key", ""))
            raise ApiError(401, f"invalid key {sent}")  # some servers repeat it
        if path == "/v1/messages":
            self._check(body, headers)
            return _json(self._message(body))
        if path == "/v1/chat/completions":
            return _json(self._completion(body))
        if path == "/v1/models":
            return _json({"object": "list", "data": [{"id": name} for name in self.models]})
        if path.startswith("/v1/models/") and path[len("/v1/models/") :] in self.models:
            created = "2025-10-01T00:00:00Z"
            name = path[len("/v1/models/") :]
            facts = {"display_name": name, "created_at": created, "type": "model"}
            return _json({"id": name} | facts)
        if path == "/v1/messages/batches":
            return self._batches(method, body)
        if cancelled := re.fullmatch(r"/v1/messages/batches/(\w+)/cancel", path):
            batch = self.batches[cancelled[1]]
            self.outcomes |= {
                one["params"]["messages"][-1]["content"]: deque(["canceled"])
                for one in batch["requests"][self.done_at_cancel :]
            }
            batch["polls"] = self.polls + 1
            return _json(self._describe(cancelled[1]) | {"processing_status": "canceling"})
        found = re.fullmatch(r"/v1/messages/batches/(\w+)(/results)?", path)
        if found and self.batch_faults and (status := self.batch_faults.popleft()):
            raise ApiError(status, f"injected for {found[1]}")
        if found and found[1] in self.batches:
            return self._results(found[1]) if found[2] else _json(self._poll(found[1]))
        raise ApiError(404, f"not found: {path}")

    def _check(self, params: Any, headers: dict[str, str]) -> None:
        if params["model"] not in self.models:
            raise ApiError(404, f"model: {params['model']}")
        version = headers["anthropic-version"]
        if "temperature" in params and (version >= "2026-10-21" or not self.takes_temperature):
            raise ApiError(400, "temperature: Extra inputs are not permitted")

    def _message(self, params: Any) -> dict[str, Any]:
        user = params["messages"][-1]["content"]
        reply = self.reply(user, "output_config" in params)
        content = [{"type": "text", "text": reply.text}] if reply.stop != "refusal" else []
        usage = {"input_tokens": len(user) // 4, "output_tokens": len(reply.text) // 4}
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": params["model"],
            "content": content,
            "stop_reason": reply.stop,
            "stop_sequence": None,
            "usage": usage,
        }

    def _completion(self, params: Any) -> dict[str, Any]:
        if params["model"] not in self.models:
            raise ApiError(404, f"model {params['model']} does not exist")
        if "temperature" in params and not self.takes_temperature:
            raise ApiError(400, "Unsupported value: 'temperature' does not support 0 here")
        user = params["messages"][-1]["content"]
        reply = self.reply(user, "response_format" in params)
        finish = {"end_turn": "stop", "max_tokens": "length", "refusal": "content_filter"}
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        usage = {"prompt_tokens": len(user) // 4, "completion_tokens": len(reply.text) // 4}
        choice = {"index": 0, "finish_reason": finish[reply.stop], "message": message}
        facts = {"id": "c-1", "object": "chat.completion", "created": 0, "model": params["model"]}
        return facts | {"choices": [choice], "usage": usage, "provider": "Fake"}

    def _batches(self, method: str, body: Any) -> bytes:
        if method == "GET":
            listed = [self._describe(name) for name in reversed(self.batches)]
            if self.list_lags:
                self.list_lags -= 1
                listed = []
            return _json({"data": listed, "has_more": False, "first_id": None, "last_id": None})
        names = [one["custom_id"] for one in body["requests"]]
        if len(set(names)) < len(names):
            raise ApiError(400, "custom_id must be unique")
        if not all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in names):
            raise ApiError(400, "custom_id: wrong pattern")
        name = f"msgbatch_{len(self.batches)}"
        created = datetime.now(UTC) + timedelta(seconds=self.clock_offset)
        self.batches[name] = {"requests": body["requests"], "polls": 0, "lines": None}
        self.batches[name]["created_at"] = created.strftime("%Y-%m-%dT%H:%M:%SZ")
        return _json(self._describe(name))

    def _poll(self, name: str) -> dict[str, Any]:
        self.batches[name]["polls"] += 1
        return self._describe(name)

    def _describe(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        ended, size = batch["polls"] > self.polls, len(batch["requests"])
        counts = dict.fromkeys(["processing", "succeeded", "errored", "canceled", "expired"], 0)
        counts["succeeded" if ended else "processing"] = size
        base = self.results_url or self.url
        results = f"{base}/v1/messages/batches/{name}/results" if ended else None
        times = dict.fromkeys(["ended_at", "archived_at", "cancel_initiated_at"])
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": counts,
            "created_at": batch["created_at"],
            "expires_at": "2099-01-02T00:00:00Z",
            "results_url": results,
        } | times

    def _results(self, name: str) -> bytes:
        """Results, the same each time, in random order."""
        batch = self.batches[name]
        if batch["lines"] is None:
            lines = [self._result(one) for one in batch["requests"]]
            self._rng.shuffle(lines)
            batch["lines"] = lines
        return b"".join(batch["lines"])

    def _result(self, one: Any) -> bytes:
        outcomes = self.outcomes.get(one["params"]["messages"][-1]["content"])
        outcome = outcomes.popleft() if outcomes else "errored" if self.error_type else "succeeded"
        result: dict[str, Any] = {"type": outcome}
        try:
            self._check(one["params"], {"anthropic-version": "2023-06-01"})
        except ApiError as error:
            outcome = "errored"
            problem = {"type": ERRORS[error.status], "message": error.message}
            result = {"type": outcome, "error": {"type": "error", "error": problem}}
        if outcome == "succeeded":
            result["message"] = self._message(one["params"])
            self._count(one["params"], result["message"]["usage"])
        elif "error" not in result and outcome == "errored":
            problem = {"type": self.error_type or "api_error", "message": "injected"}
            result["error"] = {"type": "error", "error": problem}
        line = _json({"custom_id": one["custom_id"], "result": result})
        return self.edit(one["params"]["messages"][-1]["content"], line) + b"\n"


async def _drip(writer: asyncio.StreamWriter, pause: float) -> None:
    """Send the beginning of a response that never ends, a byte at a time."""
    writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(pause)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _error(status: int, message: str) -> bytes:
    error = {"type": ERRORS.get(status, "api_error"), "message": message}
    return _json({"type": "error", "error": error})


def _write(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    cut: int | None = None,
) -> bool:
    """Write a response; with `cut`, close the connection after that many bytes of its body."""
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (fields | (headers or {})).items())
    writer.write(f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body[:cut])
    return cut is None
