"""Take a bundle into a checkout: `python -m esr.bundle import FILE`."""

import argparse
import logging
from pathlib import Path

from esr.bundle.archive import import_bundle, log, read_manifest
from esr.errors import EsrError


def main(arguments: list[str] | None = None) -> None:
    """Import a bundle into the current folder."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m esr.bundle", description=__doc__)
    parser.add_argument("command", choices=["import"])
    parser.add_argument("file", type=Path, help="a bundle, made by `snakemake bundle`")
    parser.add_argument("--replace", action="store_true", help="replace files that differ")
    chosen = parser.parse_args(arguments)
    if not Path("Snakefile").is_file():
        raise SystemExit("run this in the project's folder: there is no Snakefile here")
    try:
        origin = read_manifest(chosen.file)["esr"]
        files = import_bundle(chosen.file, Path(), chosen.replace)
    except EsrError as error:
        raise SystemExit(str(error)) from None
    log.info("study %s: %d files, made at %s", origin["study"], len(files), origin["git"])
    log.info("now: snakemake --config study=%s -- all", origin["study"])


if __name__ == "__main__":
    main()
