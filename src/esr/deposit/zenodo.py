"""Upload to Zenodo: a draft with the zipped RO-Crate; its owner publishes it in the browser.

Zenodo's deposit API: a deposition is created, its metadata are set, files are put into its bucket
(https://developers.zenodo.org). The id of the draft is kept beside the deposit, so that the same
command continues with it.
"""

import hashlib
import json
import logging
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from esr.certificates import trusted
from esr.deposit.about import MIT
from esr.deposit.upload import AGAIN, token_of, without
from esr.errors import EsrError, full_disk, is_full

log = logging.getLogger(__name__)

VARIABLE = "ZENODO_TOKEN"
ADDRESS = "https://zenodo.org"
TOKENS = "https://zenodo.org/account/settings/applications/tokens/new/"
TIMEOUT = httpx2.Timeout(60, read=600, write=600)
CLOSED = "other-closed"
"""Zenodo's licence "Other (Not Open)": the crate states the terms."""
GONE = (404, 410)
"""Replies about a draft that its owner has deleted."""
TRIES = 3
"""Times that a file is sent when the connection breaks."""
BLOCK = 2**20
EPOCH = (1980, 1, 1, 0, 0, 0)
STORED = {".gz", ".png", ".pdf", ".safetensors"}
"""Suffixes of files that are compressed already."""


def upload_to_zenodo(deposit: Path, study: str, address: str = ADDRESS, pause: float = 1) -> str:
    """Make a draft, or continue with that of an earlier call; send what it lacks.

    Args:
        deposit: The deposit.
        study: Name of the study.
        address: Of Zenodo, or of its sandbox.
        pause: Seconds before a file is sent again after a broken connection.

    Returns:
        Address of the draft.

    Raises:
        EsrError: no token, one that is not accepted, a file that is too large, no connection, or a
            full disk here.
    """
    check_address(address)
    token = token_of(VARIABLE, TOKENS, "use deposit:write")
    archive = deposit.parent / f"esr-{study}-crate.zip"
    record = deposit.parent / "zenodo.json"
    headers = {"Authorization": f"Bearer {token}"}
    try:
        zip_crate(deposit / "crate", archive)
        with httpx2.Client(
            base_url=address, headers=headers, timeout=TIMEOUT, verify=trusted()
        ) as client:
            draft = _draft(client, record, metadata_of(deposit / "crate"))
            _send(client, draft, archive, pause)
            return str(draft["links"]["html"])
    except httpx2.HTTPStatusError as error:
        raise EsrError(without(token, _explain(error.response, archive.name))) from None
    except httpx2.HTTPError as error:
        raise EsrError(
            without(token, f"{address}: {type(error).__name__}: {error}. {AGAIN}")
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise EsrError(
            f"{address}: its reply is not that of Zenodo's deposit API ({type(error).__name__}: "
            f"{without(token, str(error))}); check --address"
        ) from None
    except OSError as error:
        if is_full(error):
            raise full_disk(error, archive) from error
        raise


def check_address(address: str) -> None:
    """Refuse an address to which a token would travel unencrypted.

    Raises:
        EsrError: it does not begin with https, and is not on this machine.
    """
    url = httpx2.URL(address)
    if url.scheme != "https" and url.host not in ("127.0.0.1", "localhost"):
        raise EsrError(
            f"--address {address}: a token is sent over https alone; the sandbox is "
            "https://sandbox.zenodo.org"
        )


def zip_crate(crate: Path, archive: Path) -> None:
    """Zip a crate. Equal contents give equal bytes, so that an equal file is not sent again."""
    scratch = archive.with_name(archive.name + ".part")
    try:
        with zipfile.ZipFile(scratch, "w", allowZip64=True) as file:
            for path in sorted(p for p in crate.rglob("*") if p.is_file()):
                member = zipfile.ZipInfo(path.relative_to(crate).as_posix(), EPOCH)
                stored = path.suffix in STORED
                member.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
                member.external_attr = 0o644 << 16
                with path.open("rb") as source, file.open(member, "w", force_zip64=True) as target:
                    while block := source.read(BLOCK):
                        target.write(block)
        scratch.replace(archive)
    finally:
        scratch.unlink(missing_ok=True)


def metadata_of(crate: Path) -> dict[str, Any]:
    """Zenodo's metadata of a crate, from its own."""
    graph = json.loads((crate / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    entities = {entity["@id"]: entity for entity in graph}
    root = entities["./"]
    listed = root["author"] if isinstance(root["author"], list) else [root["author"]]
    return {
        "upload_type": "dataset",
        "title": root["name"],
        "description": root["description"],
        "publication_date": root["datePublished"],
        "creators": [{"name": entities[author["@id"]]["name"]} for author in listed],
        "license": "mit" if root["license"]["@id"] == MIT else CLOSED,
        "keywords": root["keywords"].split(", "),
        "related_identifiers": [
            {"identifier": root["citation"]["@id"], "relation": "isSupplementTo"}
        ],
    }


def _draft(client: httpx2.Client, record: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The draft of an earlier call while it is one, else a new one; with its metadata."""
    draft = _earlier(client, record)
    if draft is None:
        draft = _checked(client.post("/api/deposit/depositions", json={}))
        kept = {"address": str(client.base_url), "id": draft["id"]}
        record.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        log.info("draft %s", draft["links"]["html"])
    path = f"/api/deposit/depositions/{draft['id']}"
    _checked(client.put(path, json={"metadata": dict(metadata)}))
    return draft


def _earlier(client: httpx2.Client, record: Path) -> dict[str, Any] | None:
    if not record.is_file():
        return None
    try:
        kept = json.loads(record.read_text(encoding="utf-8"))
        address, number = kept["address"], kept["id"]
    except (KeyError, TypeError, ValueError):
        raise EsrError(
            f"{record}: damaged; remove it, and a new draft is made (the earlier one is listed "
            "among your uploads)"
        ) from None
    if address != str(client.base_url):
        return None
    reply = client.get(f"/api/deposit/depositions/{number}")
    if reply.status_code in GONE:
        return None
    draft = _checked(reply)
    if draft.get("submitted"):
        log.info("%s is published; a new draft is made", draft["links"]["html"])
        return None
    log.info("continuing with draft %s", draft["links"]["html"])
    return draft


def _send(client: httpx2.Client, draft: Mapping[str, Any], file: Path, pause: float) -> None:
    """Put a file into the bucket of a draft, unless it is there."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "md5").hexdigest()
    for one in draft.get("files", ()):
        if one["filename"] == file.name and one["checksum"].removeprefix("md5:") == digest:
            log.info("%s is there already", file.name)
            return
    bucket = httpx2.URL(draft["links"]["bucket"])
    if (bucket.scheme, bucket.host) != (client.base_url.scheme, client.base_url.host):
        raise EsrError(
            f"{client.base_url} names a bucket on another host ({bucket.scheme}://{bucket.host}); "
            "the token is not sent there. Check --address"
        )
    size = file.stat().st_size
    log.info("sending %s, %.1f MB", file.name, size / 1e6)
    broken = retry_if_exception_type(httpx2.TransportError)
    waits = wait_exponential(pause)
    for attempt in Retrying(stop=stop_after_attempt(TRIES), wait=waits, retry=broken, reraise=True):
        with attempt:
            reply = client.put(
                f"{bucket}/{file.name}",
                content=_blocks(file),
                headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
            )
    arrived = _checked(reply)["checksum"].removeprefix("md5:")
    if arrived != digest:
        raise EsrError(f"{file.name} arrived damaged (its checksum differs). {AGAIN}")


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as content:
        while block := content.read(BLOCK):
            yield block


def _checked(reply: httpx2.Response) -> dict[str, Any]:
    reply.raise_for_status()
    found: dict[str, Any] = reply.json()
    return found


def _explain(reply: httpx2.Response, name: str) -> str:
    """What a refusal of Zenodo means, and the remedy."""
    status = reply.status_code
    if status in (401, 403):
        return (
            f"Zenodo does not accept the token in {VARIABLE} (HTTP {status}); make one with the "
            f"scope deposit:write at {TOKENS} (the sandbox has tokens of its own)"
        )
    if status in (413, 507):
        return (
            f"Zenodo has no room for {name} (HTTP {status}): a record holds 50 GB. Ask Zenodo for "
            f"a larger quota, or use --to hub. {AGAIN}"
        )
    return f"Zenodo replied with HTTP {status}: {reply.text[:300]}. {AGAIN}"
