"""The command `esr`: `esr steer` steers a model by hand, `esr upload` sends a deposit."""

import json
import logging
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from esr.errors import EsrError
from esr.interactive.change import Ends, How
from esr.interactive.session import Session, Steered
from esr.interactive.show import compare, overview, summary
from esr.interactive.study import open_study

app = typer.Typer(
    help="Endogenous Steering Resistance: steer a model by hand, publish results.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
SWEEP = tuple(i / 4 for i in range(9))
"""Boosts of a sweep, as multiples of the one given: 0 (unsteered) to 2."""
StudyName = Annotated[str, typer.Option(help="Study: studies/<study>.yaml.")]
Folder = Annotated[str, typer.Option(help="Folder of the workflow.")]


def _version(wanted: bool) -> None:
    if wanted:
        from esr import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Endogenous Steering Resistance: steer a model by hand, publish results."""


@app.command()
def steer(
    prompt: Annotated[str, typer.Argument(help="User turn, e.g. 'Explain how to bake bread.'")],
    study: StudyName = "organism",
    model: Annotated[str | None, typer.Option(help="Model of the study.")] = None,
    latent: Annotated[int | None, typer.Option(help="Latent to steer.")] = None,
    boost: Annotated[str, typer.Option(help="A number (decoder units), or `threshold`.")] = (
        "threshold"
    ),
    ablate: Annotated[
        str | None, typer.Option(help="`detectors`, `random-0`, or latents: 12,34.")
    ] = None,
    ablate_to: Annotated[
        str | None,
        typer.Option(help="Clamp these to their `mean` on unsteered answers, or to a number."),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="Share of their contribution that is removed.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers at which the boost is added: 1,2.")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(help="Tokens at which it is added: 0: (the response), :40 (then off)."),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Nine boosts, from 0 to twice the boost.")
    ] = False,
    samples: Annotated[int, typer.Option(min=1, help="Responses, with consecutive seeds.")] = 1,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Sampling seed; default: that of the study.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="Judge of the study, or `none`; default: the primary one.")
    ] = None,
    engine: Annotated[str | None, typer.Option(help="`transformers` or `vllm`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead.")] = False,
    project: Folder = ".",
) -> None:
    """Generate a steered response and show it beside the unsteered one."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    messages = Console(stderr=True)
    try:
        if sweep and latent is None:
            raise EsrError("--sweep changes the boost of a latent: give --latent")
        if boost != "threshold" and latent is None:
            raise EsrError(f"--boost {boost} is that of a latent: give --latent")
        changes: dict[str, Any] = {} if engine is None else {"engine": {"name": engine}}
        # vLLM warns in its host process, in dozens of lines; its errors still come through.
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        how = how_of(ablate_to, strength, layers, window)
        opened = open_study(study, project, **changes)
        with messages.status(f"opening {model or study}"):
            session = opened.engine(model, judge, how.get("layers") or ())
        base = session.study.config.seeds.generation if seed is None else seed
        seeds = range(base, base + samples)
        with messages.status(f"generating with {session.model}"):
            found = respond(session, prompt, latent, boost, latents_of(ablate), seeds, sweep, how)
    except EsrError as error:
        complain(messages, error)
        raise typer.Exit(1) from None
    write(found, as_json, overview_only=sweep or samples > 1)


@app.command()
def upload(
    to: Annotated[str, typer.Option(help="`hub` (Hugging Face) or `zenodo`.")],
    study: StudyName = "organism",
    owner: Annotated[
        str | None, typer.Option(help="hub: user or organisation that owns the repositories.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="hub: make new repositories public.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="Another server: https://sandbox.zenodo.org.")
    ] = None,
    project: Folder = ".",
) -> None:
    """Send the deposit of a study to a public archive; nothing else of esr sends results.

    `snakemake deposit` makes the deposit. The token is read from HF_TOKEN or ZENODO_TOKEN.
    Repositories of the Hub are private, and Zenodo's record is a draft, until you publish them.
    """
    from esr.deposit.upload import deposit_of, send

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        found = send(to, deposit_of(study, Path(project)), study, owner, public, address)
    except EsrError as error:
        complain(Console(stderr=True), error)
        raise typer.Exit(1) from None
    for one in found:
        typer.echo(one)


def complain(console: Console, error: EsrError) -> None:
    """Print an error; the terminal wraps it, so that a command in it can be copied as one line."""
    text = f"error: {error}"
    console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def respond(
    session: Session,
    prompt: str,
    latent: int | None,
    boost: str,
    ablate: str | list[int],
    seeds: range,
    sweep: bool,
    how: How,
) -> list[Steered]:
    """Responses to a prompt: unsteered and steered with each seed, or at each boost of a sweep."""
    plain: How = {"ablate_to": how.get("ablate_to"), "strength": how.get("strength")}
    settings: list[tuple[int | None, float | str, How]]
    if latent is None:
        settings = [(None, 0.0, how)]
    elif sweep:
        steered = session.boost(latent, boost)
        settings = [(latent, share * steered, how) for share in SWEEP]
    else:
        settings = [(None, 0.0, plain), (latent, boost, how)]
    requests = [
        session.request(prompt, which, value, ablate, seed, **each)
        for which, value, each in settings
        for seed in seeds
    ]
    return session.generate_many(requests, prompt)


def how_of(
    ablate_to: str | None, strength: float | None, layers: str | None, window: str | None
) -> How:
    """Values of the options that steer and ablate latents in other ways than by default.

    Raises:
        EsrError: naming the option whose value cannot be read.
    """
    how: How = {"strength": strength}
    if ablate_to is not None:
        how["ablate_to"] = "mean" if ablate_to == "mean" else _number(ablate_to)
    if layers is not None:
        try:
            how["layers"] = [int(part) for part in layers.split(",")]
        except ValueError:
            raise EsrError(f"--layers {layers!r}: give layers such as 1,2") from None
    if window is not None:
        how["window"] = _ends(window)
    return how


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise EsrError(f"--ablate-to {value!r}: give `mean` or an activation") from None


def _ends(window: str) -> Ends:
    """Ends of a window such as `0:40`, `0:` or `:40`."""
    start, colon, stop = window.partition(":")
    try:
        if not colon:
            raise ValueError(window)
        return int(start) if start.strip() else None, int(stop) if stop.strip() else None
    except ValueError:
        raise EsrError(
            f"--window {window!r}: give two tokens such as 0:40, of which one may be missing"
        ) from None


def latents_of(ablate: str | None) -> str | list[int]:
    """Value of `--ablate`: the name of a set, or numbers of latents separated by commas."""
    if ablate is None:
        return []
    try:
        return [int(part) for part in ablate.split(",")]
    except ValueError:
        return ablate


def write(found: list[Steered], as_json: bool, overview_only: bool) -> None:
    """Write responses to standard output: as JSON, as a table, or in full."""
    if as_json:
        typer.echo(json.dumps([one.as_dict() for one in found], indent=2, ensure_ascii=False))
        return
    console = Console()
    if overview_only:
        console.print(overview(found), summary(found), sep="\n")
    else:
        console.print(compare(found, console.width))
