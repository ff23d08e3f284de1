"""What `snakemake check` does: everything about a study that can be known without a GPU.

Cheap checks of files run at every start (`esr.planning.files.check_files`); these load tokenizers,
read every table that a person wrote, and reach for the hub where a model lives there.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from statistics import NormalDist
from typing import Any, get_args

from esr.analysis.claims import read_claims
from esr.analysis.claims_scope import no_claims_note, other_studies_claims
from esr.arms.chat import prompt_tokens, read_stop_tokens
from esr.arms.prompts import read_prompts
from esr.arms.restarts import read_phrases
from esr.arms.template import set_template
from esr.assets.checkpoints import model_shape
from esr.assets.hub import check_repository, is_commit_at_hand
from esr.assets.registry import sae_releases
from esr.assets.sae_origin import contradictions, origin_of
from esr.assets.saelens import sae_shape
from esr.config import Config, HumanJudgeConfig, LlmConfig, ModelConfig, NeuronpediaConfig
from esr.errors import EsrError
from esr.judges import open_judge
from esr.judges.base import JudgeInput
from esr.latents.selection import read_labels
from esr.planning.blinding import check_blinding
from esr.planning.boosts import boost_lines
from esr.planning.directions import check_vector_widths
from esr.planning.disk import check_disk, own_weights
from esr.planning.files import IF_MEANT, check_shapes
from esr.planning.hardware import check_gpu_memory, check_judge_memory, check_shared_gpus
from esr.planning.hours import check_walltime, estimate_compute
from esr.planning.judges import check_judges
from esr.planning.partitions import partition_problems
from esr.planning.readouts import check_readouts
from esr.planning.tokens import check_round_trip, check_vocabulary, stop_lines

LLM_KINDS = " or ".join(
    str(get_args(kind.model_fields["kind"].annotation)[0]) for kind in get_args(LlmConfig)
)
"""Kinds of judges that are language models, for messages."""


OVERFLOWING = ("gemma2", "gemma3")
"""Families whose residual stream leaves the range of float16."""


def check_study(config: Config) -> Iterator[str]:
    """Check a study; yield a line for everything found in order.

    Raises:
        EsrError: the first thing that is not in order, with its key.
    """
    prompts = read_prompts(config.prompts)
    yield f"prompts: {len(prompts)} in {config.prompts}"
    read_phrases(config.judging.restart_phrases)
    yield f"restart phrases: {config.judging.restart_phrases}"
    yield from check_machines(config)
    yield from check_judges(config, config.judging.llms)
    yield from check_blinding(config)
    texts = prompts["prompt"].tolist()
    for name in config.judging.judges:
        yield from _check_lexicon(config, name, texts)
    yield from check_claims(config)
    for name, model in config.base_models.items():
        try:
            described = _check_model(config, name, texts)
            shape = _shape(model)
            source = (model.source, model.revision)
            stops = list(stop_lines(_tokenizer(model), read_stop_tokens(*source)))
        except EsrError as error:
            raise EsrError(f"models.{name}: {error}") from None
        sae = sae_shape(config, name)
        problems = check_shapes(config, name, shape, sae)
        problems += check_vector_widths(config, name, int(shape["d_model"]))
        if problems:
            raise EsrError("\n".join(problems))
        wanted = config.latents.count * config.latents.candidates
        if sae is not None and wanted > sae.d_sae:
            yield (
                f"model {name}: latents.count x latents.candidates is {wanted}, but the SAE has "
                f"{sae.d_sae} latents: all of them are candidates"
            )
        yield f"model {name}: {described}"
        yield from (f"model {name}: {line}" for line in stops)
        family = str(_hub_config(model).get("model_type"))
        if model.dtype == "float16" and family.startswith(OVERFLOWING):
            yield (
                f"model {name}: {family} overflows in float16 (activations are NaN); set "
                f"models.{name}.dtype: bfloat16"
            )
        yield from boost_lines(config, name)


def _check_lexicon(config: Config, name: str, prompts: Sequence[str]) -> Iterator[str]:
    """Check a judge that is no language model: its lexicon has words of every prompt, or its sheet.

    Raises:
        EsrError: there is no usable sheet, or prompts without a word of the lexicon.
    """
    settings = config.judging.judges[name]
    if isinstance(settings, LlmConfig):
        return
    judge = open_judge(settings)
    if isinstance(settings, HumanJudgeConfig):
        yield f"judge {name}: {settings.sheet} is a sheet, filled in"
        return
    found = judge.judge([JudgeInput(prompt, prompt) for prompt in prompts])
    bad = [p for p, a in zip(prompts, found, strict=True) if a.status != "ok"]
    if bad:
        raise EsrError(
            f"judge {name} finds no word of its lexicon ({settings.lexicon}) in {len(bad)} of "
            f"{len(prompts)} prompts, e.g. {bad[0]!r}. Judges of kind {settings.kind} know the "
            "planted organisms' language alone; for a model that writes English use a language "
            f"model as judge (kind: {LLM_KINDS}; docs/judges.md lists those without a key) or a "
            "person's sheet (kind: human)"
        )
    yield f"judge {name}: {judge.served_as} places all prompts"


def check_claims(config: Config) -> Iterator[str]:
    """Count the claims that a study is scored by; say which files are about other models."""
    note = no_claims_note(config.claims, config.models)
    others = other_studies_claims(config.claims, config.models)
    kept = [path for path in config.claims if path not in others]
    yield f"claims: {len(read_claims(kept))} in {len(kept)} files{'. ' * bool(note)}{note}"


def check_machines(config: Config) -> Iterator[str]:
    """Check that models fit their GPUs, disks what is written to them, partitions the jobs.

    Raises:
        EsrError: all that does not, a line each.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    problems = [
        *check_priors(config),
        *check_gpu_memory(config, config.models),
        *check_judge_memory(config, config.judging.local),
        *check_shared_gpus(config, config.models),
        *partition_problems(config),
    ]
    missing = [name for name, model in config.base_models.items() if not _is_available(model)]
    missing += [
        name
        for name, judge in own_weights(config).items()
        if not is_commit_at_hand(judge.source, str(judge.revision))
    ]
    problems += check_disk(config, Path(HF_HUB_CACHE), missing)
    if problems:
        raise EsrError("\n".join(problems))
    table = estimate_compute(config)
    yield f"machines: {len(config.models)} models fit"
    yield from check_walltime(table)


def _is_available(model: ModelConfig) -> bool:
    """Whether a checkpoint is in its folder or in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    if model.is_local:
        return True
    found = try_to_load_from_cache(model.source, "config.json", revision=model.revision)
    return isinstance(found, str)


def _check_hub(model: ModelConfig) -> None:
    """Check that a checkpoint can be downloaded, unless it is cached or local.

    Raises:
        EsrError: gated and no access, no such repository or revision, no network.
    """
    if not _is_available(model):
        check_repository("source", model.source, "revision", model.revision)


def _check_release(model: ModelConfig) -> str:
    """Check an SAE's release, id, labels and commit; return the commit.

    Only the commit needs a network, unless it is in the hub's cache.

    Raises:
        EsrError: no such release, id or commit; labels of another SAE; an SAE of another layer,
            stream or model.
    """
    if model.sae.release is None:
        return ""
    listed = sae_releases()
    if model.sae.release not in listed:
        near = get_close_matches(model.sae.release, listed)
        raise EsrError(f"sae.release: SAELens has no {model.sae.release!r}; near it: {near}")
    saes = {sae["id"]: sae.get("neuronpedia") for sae in listed[model.sae.release]["saes"]}
    if model.sae.id not in saes:
        near = get_close_matches(str(model.sae.id), saes)
        raise EsrError(f"sae.id: {model.sae.release} has no {model.sae.id!r}; near it: {near}")
    labels = model.labels
    known = saes[str(model.sae.id)]
    if isinstance(labels, NeuronpediaConfig) and known not in (None, labels.neuronpedia):
        raise EsrError(f"labels: {labels.neuronpedia} belongs to another SAE; this one is {known}")
    if "metadata" not in model.accept_sae:
        for line in contradictions(origin_of(model.sae), model):
            raise EsrError(f"sae: {line}; {IF_MEANT}")
    repository = listed[model.sae.release]["repo_id"]
    revision = model.sae.revision
    if revision is None:
        return f", SAE of {repository} at its newest commit (sae.revision keeps to one)"
    if not is_commit_at_hand(repository, revision):
        check_repository("sae.release", repository, "sae.revision", revision)
    return f", SAE of {repository} at {revision[:7]}"


def _check_model(config: Config, name: str, prompts: list[str]) -> str:
    model = config.models[name]
    sae = _check_release(model)
    _check_hub(model)
    tokenizer = _tokenizer(model)
    forms = {(arm.meta_prompt or "{prompt}", arm.prefill) for arm in config.arms.values()}
    lengths = []
    used: set[int] = set()
    for template, prefill in sorted({("{prompt}", ""), *forms}):
        for prompt in prompts:
            shown = template.format(prompt=prompt, label="a label")
            tokens = prompt_tokens(tokenizer, shown, prefill, config.generation.doubled_header)
            lengths.append(len(tokens))
            used.update(tokens)
    longest = max(lengths)
    check_vocabulary(used, _hub_config(model))
    _check_context(config, model, longest)
    _check_windows(config, min(lengths))
    _check_cuts(config, name, tokenizer)
    check_readouts(config, name, tokenizer)
    # A word the tokenizer does not know would reach the model as something else.
    unknown = tokenizer.unk_token_id
    for prompt in prompts:
        if unknown is not None and unknown in tokenizer.encode(prompt, add_special_tokens=False):
            raise EsrError(f"the tokenizer does not know a word of the prompt {prompt!r}")
    check_round_trip(tokenizer, prompts)
    labels = "no labels"
    if model.labels_file is not None:
        has = sae_shape(config, name)
        labels = "labels unchecked"
        if has is not None and model.labels_file.is_file():
            labels = f"{read_labels(model.labels_file, has.d_sae)['label'].notna().sum()} labels"
    return f"{model.source}, longest prompt {longest} tokens, {labels}{sae}"


def check_priors(config: Config) -> Iterator[str]:
    """A line for every threshold prior that lies mostly outside its bounds."""
    for name, model in config.models.items():
        prior = model.threshold_prior
        if prior is None:
            continue
        normal = NormalDist(prior.mean, prior.sd)
        inside = normal.cdf(prior.upper) - normal.cdf(prior.lower)
        if inside < 0.5:
            yield (
                f"models.{name}.threshold_prior: {100 * (1 - inside):.0f} % of the prior "
                f"{prior.mean:g} +- {prior.sd:g} lie outside {prior.lower:g} to {prior.upper:g}; "
                "lower `sd` or widen the bounds"
            )


def _check_context(config: Config, model: ModelConfig, longest: int) -> None:
    """Check that prompt and response fit the context; an engine may run past it in silence."""
    text = _hub_config(model)
    text = text.get("text_config", text)
    limit = text.get("max_position_embeddings")
    remedy = ""
    if config.engine.name == "vllm" and (limit is None or config.engine.vllm.max_model_len < limit):
        limit = config.engine.vllm.max_model_len
        remedy = ", or raise engine.vllm.max_model_len"
    new = max(config.response_tokens(name) for name in config.arms)
    if limit is not None and longest + new > limit:
        raise EsrError(
            f"{longest} tokens of the longest prompt and {new} new tokens exceed the context of "
            f"{limit} tokens; lower generation.max_new_tokens{remedy}"
        )


def _check_windows(config: Config, shortest: int) -> None:
    """Check that no window of an arm ends before the shortest prompt begins."""
    for name, arm in config.arms.items():
        stop = None if arm.window is None else arm.window.stop
        if isinstance(stop, int) and shortest + stop <= 0:
            raise EsrError(
                f"arms.{name}.window.stop: {stop} lies before the first token of a prompt of "
                f"{shortest} tokens, so that nothing is steered; raise it"
            )


def _check_cuts(config: Config, model: str, tokenizer: Any) -> None:
    """Check that no cut of an arm lies beyond the longest text that it could continue."""
    longest = 1 + max(map(len, tokenizer.get_vocab()))  # some tokenizers put blanks between tokens
    prefill = max(len(arm.prefill) for arm in config.arms.values())
    for name in config.arms_of(model):
        continued = config.arms[name].continued
        if continued is None or not continued.cuts:
            continue
        tokens = config.response_tokens(continued.arm)
        if continued.cuts[-1] > prefill + tokens * longest:
            raise EsrError(
                f"arms.{name}.continue.cuts: {continued.cuts[-1]} characters, but a response of "
                f"{continued.arm} has at most {tokens} tokens of {longest} characters; lower it"
            )


def _tokenizer(model: ModelConfig) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model.source, revision=model.revision)
    except (OSError, ValueError) as error:
        raise EsrError(f"source {model.source}: cannot load its tokenizer: {error}") from None
    set_template(tokenizer, model.template)
    return tokenizer


def _shape(model: ModelConfig) -> dict[str, Any]:
    """Shape of a checkpoint, from its config.json."""
    return model_shape(_hub_config(model), f"source {model.source}: config.json")


def _hub_config(model: ModelConfig) -> dict[str, Any]:
    """The config.json of a checkpoint, in its folder or, at its commit, on the hub."""
    from transformers import AutoConfig

    try:
        found: dict[str, Any] = AutoConfig.from_pretrained(
            model.source, revision=model.revision
        ).to_dict()
    except (OSError, ValueError, KeyError) as error:
        raise EsrError(f"source {model.source}: cannot read its config.json: {error}") from None
    return found
