"""An OpenAI-compatible address on this machine that serves one judgment, for the round trip."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def serve_judge(attempts: Sequence[tuple[str, float]]) -> Iterator[str]:
    """Serve chat completions with these attempts (text and score); yield the address of the API."""
    listed = [{"text": text, "score": score} for text, score in attempts]
    content = f"<json>{json.dumps({'attempts': listed})}</json>"

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps(_completion(str(sent["model"]), content)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing: the check reports."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _completion(model: str, content: str) -> dict[str, object]:
    message = {"role": "assistant", "content": content}
    return {
        "id": "verify",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
