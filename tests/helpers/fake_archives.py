"""Stand-ins of the HTTP interfaces of the Hugging Face Hub and of Zenodo, as far as uploads go.

Both check the token, keep what arrives, and list the requests. Faults are scripted: `faults` maps a
part of a path to a status, or to `drop` (the connection breaks while the file is sent), each for
the next request that fits.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_a-secret-token"


class FakeArchive:
    """The server, in a thread of its own: `with FakeHub() as hub: ... hub.url`."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.faults: list[tuple[str, int | str]] = []
        archive = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # the body of a reply would wait 40 ms after its head

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

            def handle_any(self) -> None:
                archive.handle(self)

            do_GET = handle_any  # noqa: N815 (the names that http.server calls)
            do_POST = handle_any  # noqa: N815
            do_PUT = handle_any  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Any:
        # Within this time (s) the server notices that it shall stop.
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def count(self, pattern: str) -> int:
        """Number of requests whose method and path match."""
        return sum(re.search(pattern, one) is not None for one in self.requests)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        self.requests.append(f"{request.command} {path}")
        fault = next((one for one in self.faults if one[0] in path), None)
        if fault is not None:
            self.faults.remove(fault)
        if fault is not None and fault[1] == "drop":
            request.rfile.read(10)
            request.close_connection = True
            request.connection.close()
            return
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        status: int | str
        if fault is not None:
            status, reply = fault[1], {"error": "scripted"}
        elif request.headers.get("authorization") != f"Bearer {TOKEN}" and "/lfs/" not in path:
            status, reply = 401, {"error": f"bad token {request.headers.get('authorization')}"}
        else:
            status, reply = self.route(request.command, path, body)
        content = json.dumps(reply).encode()
        request.send_response(int(status))
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def route(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        raise NotImplementedError


class FakeHub(FakeArchive):
    """Repositories by kind and name, each with its files; Parquet and weights go through LFS."""

    def __init__(self) -> None:
        super().__init__()
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}

    def route(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            sent = json.loads(body)
            name = f"{sent.get('organization')}/{sent['name']}"
            kind = sent.get("type", "model")
            prefix = "datasets/" if kind == "dataset" else ""
            known = prefix + name in self.repositories
            self.repositories.setdefault(prefix + name, {})
            self.private.setdefault(prefix + name, sent.get("visibility") == "private")
            reply = {"url": f"{self.url}/{prefix}{name}", "error": "exists"}
            return (409 if known else 200), reply
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if found := re.fullmatch(r"/api/(models/|datasets/)(.+)/preupload/main", path):
            return 200, {"files": [self._mode(found, one) for one in json.loads(body)["files"]]}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"objects": [self._action(one) for one in json.loads(body)["objects"]]}
        if path.startswith("/lfs/"):
            self.objects[path.rsplit("/", 1)[1]] = body
            return 200, {}
        if found := re.fullmatch(r"/api/(models/|datasets/)(.+)/commit/main", path):
            self._commit(found, body)
            where = f"{self.url}/{found[1].replace('models/', '')}{found[2]}"
            return 200, {"commitUrl": f"{where}/commit/{'1' * 40}", "commitOid": "1" * 40}
        if found := re.fullmatch(r"/api/(models/|datasets/)(.+)/revision/main", path):
            return 200, {"id": found[2], "sha": "1" * 40, "siblings": []}
        if found := re.fullmatch(r"/api/(models/|datasets/)(.+)/tree/main", path):
            return 200, [
                {"type": "file", "path": name, "size": len(content), "oid": "1" * 40}
                for name, content in self._files(found).items()
            ]
        return 404, {"error": f"no {path}"}

    def _files(self, found: re.Match[str]) -> dict[str, bytes]:
        return self.repositories[found[1].replace("models/", "") + found[2]]

    def _mode(self, found: re.Match[str], one: dict[str, Any]) -> dict[str, Any]:
        there = self._files(found).get(one["path"])
        is_large = one["path"].endswith((".parquet", ".safetensors"))
        oid = None
        if there is not None and not is_large:
            oid = hashlib.sha1(b"blob %d\0" % len(there) + there).hexdigest()
        elif there is not None:
            oid = hashlib.sha256(there).hexdigest()
        mode = "lfs" if is_large else "regular"
        return {"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _action(self, one: dict[str, Any]) -> dict[str, Any]:
        if one["oid"] in self.objects:
            return one
        return one | {"actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}}

    def _commit(self, found: re.Match[str], body: bytes) -> None:
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "deletedFile":
                del self._files(found)[entry["value"]["path"]]
                continue
            if entry["key"] == "file":
                content = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "lfsFile":
                content = self.objects[entry["value"]["oid"]]
            else:
                continue
            self._files(found)[entry["value"]["path"]] = content


class FakeZenodo(FakeArchive):
    """Depositions by id, each with metadata and files."""

    def __init__(self) -> None:
        super().__init__()
        self.depositions: dict[int, dict[str, Any]] = {}
        self.bucket_host = ""

    def route(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/deposit/depositions":
            number = 100 + len(self.depositions)
            self.depositions[number] = {"metadata": {}, "files": {}, "submitted": False}
            return 201, self._describe(number)
        if found := re.fullmatch(r"/api/deposit/depositions/(\d+)", path):
            number = int(found[1])
            if number not in self.depositions:
                return 404, {"message": "gone"}
            if method == "PUT":
                self.depositions[number]["metadata"] = json.loads(body)["metadata"]
            return 200, self._describe(number)
        if (found := re.fullmatch(r"/api/files/bucket-(\d+)/(.+)", path)) and method == "PUT":
            self.depositions[int(found[1])]["files"][found[2]] = body
            return 201, {"checksum": f"md5:{hashlib.md5(body).hexdigest()}"}
        return 404, {"message": f"no {path}"}

    def _describe(self, number: int) -> dict[str, Any]:
        draft = self.depositions[number]
        base = self.bucket_host or self.url
        files = [
            {"filename": name, "checksum": hashlib.md5(content).hexdigest()}
            for name, content in draft["files"].items()
        ]
        return {
            "id": number,
            "submitted": draft["submitted"],
            "files": files,
            "links": {
                "html": f"{self.url}/deposit/{number}",
                "bucket": f"{base}/api/files/bucket-{number}",
            },
        }
