"""What `snakemake check` does: everything about a study that can be known without a GPU.

Cheap checks of files run at every start (`esr.assets.check_files`); these load tokenizers, read
every table that a person wrote, and reach for the hub where a model lives there.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from esr.chat import prompt_tokens, response_text
from esr.config import Config, HumanJudge, Model
from esr.errors import EsrError
from esr.judges import open_judge
from esr.judges.base import Exchange
from esr.latents import read_labels
from esr.prompts import read_prompts
from esr.restarts import read_phrases


def check_study(config: Config) -> Iterator[str]:
    """Check a study; yield a line for everything found in order.

    Raises:
        EsrError: the first thing that is not in order, with its key.
    """
    prompts = read_prompts(config.prompts)
    yield f"prompts: {len(prompts)} in {config.prompts}"
    read_phrases(config.judging.restart_phrases)
    yield f"restart phrases: {config.judging.restart_phrases}"
    yield from check_judges(config, config.judging.llms)
    for name, settings in config.judging.judges.items():
        if name in config.judging.llms:
            continue
        judge = open_judge(settings)
        if isinstance(settings, HumanJudge):
            yield f"judge {name}: {settings.sheet} is a sheet, filled in"
            continue
        answers = judge.judge([Exchange(prompt, prompt) for prompt in prompts["prompt"]])
        bad = [p for p, a in zip(prompts["prompt"], answers, strict=True) if a.status != "ok"]
        if bad:
            raise EsrError(f"judge {name} cannot place the prompt {bad[0]!r}: reword or drop it")
        yield f"judge {name}: {judge.served_as} places all prompts"
    for name, model in config.models.items():
        try:
            yield f"model {name}: " + _check_model(config, model, prompts["prompt"].tolist())
        except EsrError as error:
            raise EsrError(f"models.{name}: {error}") from None


def check_judges(config: Config, names: Iterable[str]) -> Iterator[str]:
    """Check that judges can be asked: rubric, key, address, model, price; yield a line for each.

    Costs nothing. Judges that are no language models need no check.

    Raises:
        EsrError: the first thing that is not in order, with its key.
    """
    wanted = {name: config.judging.llms[name] for name in names if name in config.judging.llms}
    if not wanted:
        return
    # Imported here: most studies are judged without these SDKs, which are slow to import.
    from esr.judges.llm import check_llm
    from esr.judges.money import price_of, read_prices

    prices = read_prices(config.judging.prices)
    for name, settings in wanted.items():
        where = f"judging.judges.{name}"
        try:
            if config.judging.budget is not None:
                price_of(settings.model, prices, config.judging.prices)
            check_llm(settings)
        except EsrError as error:
            raise EsrError(f"{where}: {error}") from None
        price = prices.get(settings.model)
        retires = f", which retires on {price.retires}" if price and price.retires else ""
        note = f" ({price.note})" if price and price.note else ""
        cost = f"price of {price.date}" if price else f"no price in {config.judging.prices}"
        yield f"judge {name}: {settings.model} at {settings.base_url}{retires}{note}, {cost}"


def _check_model(config: Config, model: Model, prompts: list[str]) -> str:
    tokenizer = _tokenizer(model)
    templates = [arm.meta_prompt for arm in config.arms.values() if arm.meta_prompt]
    longest = 0
    for template in ["{prompt}", *templates]:
        for prompt in prompts:
            shown = template.format(prompt=prompt, label="a label")
            tokens = prompt_tokens(tokenizer, shown, "", config.generation.doubled_header)
            longest = max(longest, len(tokens))
    # A word the tokenizer does not know would reach the model as something else.
    unknown = tokenizer.unk_token_id
    for prompt in prompts:
        if unknown is not None and unknown in tokenizer.encode(prompt, add_special_tokens=False):
            raise EsrError(f"the tokenizer does not know a word of the prompt {prompt!r}")
    response_text(tokenizer, tokenizer.encode(prompts[0], add_special_tokens=False))
    labels = "no labels"
    if model.labels is not None:
        size = _sae_size(model)
        found = read_labels(model.labels, size)["label"].notna().sum() if size else "unchecked"
        labels = f"{found} labels"
    return f"{model.source}, longest prompt {longest} tokens, {labels}"


def _tokenizer(model: Model) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model.source, revision=model.revision)
    except (OSError, ValueError) as error:
        raise EsrError(f"source {model.source}: cannot load its tokenizer: {error}") from None


def _sae_size(model: Model) -> int | None:
    """Number of latents, where the SAE is at hand."""
    if model.sae.path is None:
        return None
    return int(json.loads((model.sae.path / "cfg.json").read_text())["d_sae"])
