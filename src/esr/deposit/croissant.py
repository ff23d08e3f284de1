"""Croissant metadata of the dataset: files, tables, columns (mlcommons.org/croissant/1.0)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from esr.deposit.about import About
from esr.deposit.crate import PAPER, description
from esr.deposit.tables import columns_of
from esr.provenance import file_digest
from esr.tables import TABLES, Column

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
TYPES = {
    pa.string(): "sc:Text",
    pa.int64(): "sc:Integer",
    pa.float64(): "sc:Float",
    pa.bool_(): "sc:Boolean",
}


def croissant(about: About, folder: Path, files: Sequence[str]) -> dict[str, Any]:
    """Metadata of a dataset folder.

    Args:
        about: Facts about the study.
        folder: The dataset's folder.
        files: Kinds of tables, each in `data/<kind>.parquet`.
    """
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": about.name,
        "description": description(about),
        "license": licence_links(about),
        "url": PAPER,
        "version": str(about.software["version"]),
        "datePublished": about.date,
        "citeAs": f"{about.software['title']}, version {about.software['version']}, {about.git}",
        "creator": [
            {"@type": "sc:Person" if a.is_person else "sc:Organization", "name": a.name}
            for a in about.authors
        ],
        "keywords": ["activation steering", "sparse autoencoders", "language models"],
        "distribution": [_file(folder, name) for name in files],
        "recordSet": [_records(name, columns_of(name)) for name in files],
    }


def licence_links(about: About) -> list[str]:
    """Addresses of the terms: of this project, and of the models that wrote the responses."""
    links = [model.licence.link for model in about.models if model.licence.link]
    return list(dict.fromkeys(["https://opensource.org/license/mit", *links]))


def _file(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"data/{name}.parquet"
    return {
        "@type": "cr:FileObject",
        "@id": f"{name}.parquet",
        "name": f"{name}.parquet",
        "description": f"One row is {TABLES[name].row}.",
        "contentUrl": f"data/{name}.parquet",
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": file_digest(path),
    }


def _records(name: str, columns: Mapping[str, Column]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"One row is {TABLES[name].row}.",
        "field": [_field(name, key, column) for key, column in columns.items()],
    }


def _field(name: str, key: str, column: Column) -> dict[str, Any]:
    is_list = pa.types.is_list(column.type)
    kind = column.type.value_type if is_list else column.type
    found = {
        "@type": "cr:Field",
        "@id": f"{name}/{key}",
        "name": f"{name}/{key}",
        "description": column.meaning,
        "dataType": TYPES[kind],
        "source": {"fileObject": {"@id": f"{name}.parquet"}, "extract": {"column": key}},
    }
    return found | ({"repeated": True} if is_list else {})
