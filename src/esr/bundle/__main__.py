"""Import a bundle into a checkout: `python -m esr.bundle import FILE`."""

import argparse
import logging
from pathlib import Path

from esr.bundle.unpack import import_bundle, log, read_manifest
from esr.errors import EsrError


def main(arguments: list[str] | None = None) -> None:
    """Import a bundle into the current folder."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m esr.bundle", description=__doc__)
    parser.add_argument("command", choices=["import"])
    parser.add_argument("file", type=Path, help="a bundle, as written by `snakemake bundle`")
    parser.add_argument("--replace", action="store_true", help="replace files that differ")
    options = parser.parse_args(arguments)
    if not Path("Snakefile").is_file():
        raise SystemExit("there is no Snakefile here; run this in the folder of the project")
    try:
        origin = read_manifest(options.file).esr
        files = import_bundle(options.file, Path(), options.replace)
    except EsrError as error:
        raise SystemExit(str(error)) from None
    log.info("study %s: %d files, written at revision %s", origin.study, len(files), origin.git)
    log.info("now run: snakemake --config study=%s -- all", origin.study)


if __name__ == "__main__":
    main()
