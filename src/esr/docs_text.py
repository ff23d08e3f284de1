"""Prose of the pages that `esr.docs_reference` generates, and files that are not tables."""

CONFIG_INTRO = """\
# Configuration

Every key of a study. `python -m esr.docs_reference` generates this page from `esr.config`; the same
facts are in `resources/config.schema.json` for editors that check YAML.

## Where a value comes from

Later ones win, key by key:

1. the defaults below;
2. `config.yaml`, the protocol, which also names the study;
3. `studies/<study>.yaml`, the models and overrides of the study;
4. `--config` on the command line. Put `--` before the target:

```bash
snakemake --config study=organism -- fig2
snakemake --config 'generation={temperature: 1}' 'thresholds={target: 30}' -- all
```

Unknown keys and invalid values are errors; all are listed before any job runs.
`snakemake check` also validates prompts, tokenizers, labels and judges.

`null` in place of an arm, a model or a judge disables it: `arms: {meta-self-monitor: null}`, or
`--config 'arms={meta-self-monitor: null}'`. Disable the arms that replay it, too.

## Arms

An arm is a set of trials under one condition. `over: latents` draws new trials, each selected
latent at its threshold on prompts drawn for it; `over: prompts` runs every prompt with no latent.
`replay` takes the trials of another arm with their condition and adds its own condition. The two
arms differ in that alone, so they can be compared trial by trial:

```yaml
arms:
  steered: {over: latents, trials: 5}
  ablated: {replay: steered, ablate: [12, 407]}
  ablated-and-instructed: {replay: ablated, meta_prompt: "{prompt} Stay on topic."}
```

## Adding a model

A few lines in the study's file. A hub model needs the commit to use; a folder needs none.

```yaml
models:
  my-model:
    label: My model 2B
    source: some-lab/my-model-2b-it
    revision: 0123456789abcdef0123456789abcdef01234567
    parameters: 2.6e+9
    sae:
      release: my-sae-release
      id: layer_16/width_16k
    labels: resources/labels/my-model.csv
    steer_layer: 16
    read_layer: 16
    threshold_prior: {lower: 0, upper: 400, mean: 100, sd: 60}
```

The study's prompts, arms and judges apply to it at once; `snakemake check` verifies without
a GPU that model, SAE, layers and labels fit each other.

## Reading the tables

*Source* is where a default comes from: the paper (by section), or the code and notes released
with it (`January` = the protocol of January 2026, `published` = the protocol of the preprint).
Boosts are in decoder units: the multiple of the SAE's decoder row that is added to the residual
stream. Scores and ratings are points from 0 to 100.
"""

FILES_INTRO = """\
# Files

The files of a study. Paths are relative to `results/<study>/`, unless they begin with
`logs/`, `benchmarks/` or `results/`. `python -m esr.docs_reference`
generates this page from `esr.tables`; the columns are checked whenever a table is written or read.

Tables are Parquet, one row a unit, missing values as nulls, never as 0 or an empty string. A
failure is a `status`, never a number. Read one with `pandas.read_parquet`, or with
`esr.tables.read_table`, which checks it.

## Provenance

Every table carries its origin as JSON under the schema metadata key `esr`:

```python
from pathlib import Path
from esr.tables import read_provenance

read_provenance(Path("results/organism/planted/thresholds.parquet"))
```

| entry | meaning |
|---|---|
| `study`, `config` | Study, and the first 16 hex digits of the SHA-256 of its configuration. |
| `rule`, `wildcards` | The job that made the table. |
| `seeds` | All seeds of the study. |
| `git` | Commit of the working tree, `-dirty` if tracked files differed; `unknown` outside git. |
| `versions` | Installed versions of the libraries that can change a result. |
| `engine`, `judge` | What generated and what judged, as served, where the table depends on it. |

There are no times and no machine names in it: equal inputs give equal bytes.
"""

FIGURE = "The figure, as vector graphics, as picture, and as the numbers it plots (one row a mark)."
OTHER_FILES = {
    "{model}/assets/model.json": "Manifest of the model: source, revision, checksum of every file, "
    "architecture, number of layers, width, vocabulary; provenance under `esr`.",
    "judges/{judge}/model.json": "The same of a judge that the workflow runs (`kind: vllm`).",
    "{model}/judged/{judge}.json": "Judgments by status for every arm of a model, written by the "
    "one job that runs the judge for all of them (`together`); a second one, `<judge>-1`, for arms "
    "whose plans read those judgments.",
    "{model}/assets/sae.safetensors": "The SAE in raw decoder units: `W_enc` (d_model, d_sae), "
    "`b_enc` (d_sae), `W_dec` (d_sae, d_model), `b_dec` (d_model), and `threshold` (d_sae) where "
    "it is a JumpReLU. The header holds its form (`activation`, `k`), sizes (`d_model`, `d_sae`), "
    "the SHA-256 of the weights (`digest`), its source, commit and checksums (`source`, `hub`) and "
    "provenance (`esr`).",
    "{model}/arms/{arm}/relevance.parquet": "The table `relevance` of the prompts of an arm that "
    "steers latents on prompts of its own.",
    "{model}/arms/{arm}/shards/{shard}.parquet": "A part of the responses of an arm with "
    "more than one shard (`engine.shards`), columns as in `responses`.",
    "{model}/{along}thresholds-{target}.parquet": "Thresholds of another target "
    "(`arms.<arm>.target`), re-estimated from the same responses; columns as in `thresholds`.",
    "{model}/journals/*.jsonl": "Every generation, one JSON object a line, keyed by a "
    "hash of what determines it. Keep these: a rerun reuses them.",
    "replies/{rule}/**/{judge}.jsonl": "Raw replies of judges, raters and annotators, "
    "keyed by a hash of model, version of the API, parameters and prompt (docs/judges.md); beside "
    "them, in batch mode, `{judge}.batches.jsonl`: which batches were planned, created, collected. "
    "Keep these: they were paid for.",
    "{model}/finetuning/dataset.jsonl": "Mixture that a fine-tuned model is trained on, a chat a "
    "line; each part of a response is marked as trained or not.",
    "{model}/finetuning/axolotl.yaml": "Axolotl's configuration; `assets/model.json` has checksums "
    "of it, of the dataset and of the adapter (`finetuning`).",
    "{model}/finetuning/prepared.parquet": "The dataset as axolotl trains and evaluates on it, "
    "a row a chat: `input_ids`, `labels` (-100: not trained on).",
    "{model}/finetuning/masks.json": "What was checked of that: `rows`, tokens by part, checksum "
    "of the dataset, and a `sample` for people.",
    "{model}/finetuning/training.csv": "Losses of a training run: `step`, `epoch`, `loss`, "
    "`eval_loss` (nats per trained token), `learning_rate`.",
    "{model}/finetuning/adapter/": "The adapter, as PEFT has it.",
    "{model}/finetuning/merged/": "With `serve: merged`: the base with the adapter in it, a "
    "checkpoint of transformers.",
    "agreement/label_sheet.csv": "Responses for people to judge: `row` (its name), `prompt`, "
    "`response`, and columns to fill in (docs/judges.md).",
    "agreement/label_sheet.html": "The same as a page: one response at a time, by keyboard; it "
    "saves the CSV filled in.",
    "tables/ledger.csv, .tex": "What was spent: `rule`, `judge`, `model` (requested id), "
    "`served_as` (by its own account), `mode` (`live`, `batch`, `local`, `free`), `calls` (replies "
    "received), `input_tokens`, `output_tokens`, `dollars` (missing without a price), "
    "`device_seconds` (of GPUs, for judges that the workflow runs), "
    "`calls_estimated` (replies without token counts, which are estimated), "
    "`price_date`, `price_source`.",
    "tables/thresholds.csv, .tex": "Thresholds of every model, latent and `target`: the columns of "
    "the table `thresholds`, with `model`, the `norm` of the direction, and the `dose`: the length "
    "of what is added at the threshold, in medians of the norm of the residual stream "
    "(docs/thresholds.md). The LaTeX counts latents by status, with their median dose.",
    "tables/agreement.csv, .tex": "The table `agreement` in population weights, all arms together "
    "(`all`) and arm by arm.",
    "tables/controls.csv, .tex": "How far the random sets are as active as the detectors, "
    "one row a model and set: `matching` (`detectors.matching`), `detectors` and `latents` "
    "(numbers), `mean` and `detector_mean` (mean activation on steered text in units of the SAE, "
    "summed over the set and over the detectors), `mean_share` (percent), `frequency`, "
    "`detector_frequency` (share of tokens, summed), `frequency_share`.",
    "tables/bridge.csv": "An old judge against the new one (`agreement.bridge`), by `arm`: the "
    "confusion of `multi_attempt` (`both`, `only_old`, `only_new`, `neither`), "
    "`positive_agreement`, `alpha`; of `first_score` the `shift` (new minus old, points), `slope` "
    "of new on old, `alpha`; `rate_on_old_scale` of every model and arm, prediction-powered. "
    "`estimate`, `low`, `high`, `n`, `status`.",
    "tables/corrected.csv, .tex": "Rates corrected for the primary judge's errors: `model`, `arm`, "
    "`against` (the replayed arm, in rows about a change), `kind` (`rate` in percent, `difference` "
    "in percentage points, `relative_change` in percent), `measure`, `unit`, `judge`, `reference` "
    "and `reference_kind` (`people` or `second judge`: who counts as the truth); `raw`, "
    "`rogan_gladen`, `ppi` (prediction-powered), `sensitivity` and `specificity` (percent), each "
    "with `_low` and `_high`; `n`, `n_sampled`, `n_positives`, `status`.",
    "agreement/judgments/{judge}.parquet": "Judgments of the cross-judge sample, columns as in "
    "`judgments`.",
    "agreement/retest/{kind}.parquet": "The part of the sample that the primary judge grades "
    "twice: `judgments` and `scores`, columns as in these tables.",
    "agreement/scores/{judge}.parquet": "Scores of the cross-judge sample, columns as in `scores`.",
    "tables/power.csv": "What the study can decide at its size, simulated: `claim`, `source`, "
    "`rho` (intra-latent correlation), `value` (claimed), `power` and `agreed` (share of studies "
    "that confirm the claim if it is true, by the primary judge and by all ways), `latents`, "
    "`latents_80` (latents for a power of 80 %; `inf`: none are enough, or more random sets are "
    "needed; empty: steered latents do "
    "not matter), `label` (`decidable`, "
    "`underpowered`, `uncorroborated` (the second judge grades too few), or why there is no "
    "number).",
    "figures/{figure}.pdf, .png, .csv": FIGURE,
    "scorecard.csv": "Every claim, where it is looked up, the region in which it holds, what was "
    "measured by the primary judge (`measured`, `low`, `high`, `n`, `status`), `verdict`, "
    "`reason`, `power` and `power_agreed` (share of simulated studies of this size that confirm "
    "the claim if it is true, by the primary judge and by all ways; if known); for each way of "
    "grading (`primary`, `gated`, `judge_free`, `second`) `<way>_measured`, `<way>_low`, "
    "`<way>_high`, `<way>_p_holm`, `<way>_verdict`; the columns of a claim are those of "
    "`resources/claims/*.csv`, below.",
    "graph/{name}.svg, .png": "Dependency graph of the study (`all`) or of a figure. The rules of "
    "an arm are one box; an arrow that others imply is left out.",
    "graph/dependencies.csv": "For every figure its script, the number of rules and jobs behind "
    "it, and the arms and models that these run.",
    "report/": "The report: open `index.html`; it works from disk and makes no request. "
    "`data/index.js` and `data/chunk-*.js` hold the trials (`esr.report.transcripts`).",
    "verify.json, verify.md": "What `snakemake verify` found on this machine: versions, platform, "
    "one entry a check (`check`, `status`, `found`, `seconds`); the same as a block for an issue.",
    "bundle.tar.gz": "The costly files of the study (`snakemake bundle`), and `manifest.json` with "
    "the origin, settings and checksum of every file; `python -m esr.bundle import` imports it.",
    "deposit/": "What leaves the project, if somebody uploads it (`snakemake deposit`): `crate/`, "
    "an RO-Crate with the bundle; `dataset/`, a dataset repository; `adapters/{model}/`, model "
    "repositories; `logbook/`, a page a claim (docs/deposit.md).",
    "esr-{study}-crate.zip, zenodo.json": "What `esr upload --to zenodo` sends, and the draft "
    "that it made.",
    "results/downloads/neuronpedia/{model}/{sae}.csv, .json": "Labels from Neuronpedia (latent, "
    "label); addresses and checksums of the export. Shared by all studies, write-protected.",
    "results/downloads/prompts/{list}.csv, .json": "The paper's own prompts (prompt_id, category, "
    "prompt); address and checksum. Likewise.",
    "results/organisms/{organism}/": "An organism trained by `rebuild_organisms`: `model/` "
    "(a transformers checkpoint), `sae/` (SAELens' format), `labels.csv`. The "
    "study `rebuilt` measures it.",
    "logs/{study}/{model}/**/{rule}.log": "Log of each job: what it did, or why it stopped.",
    "benchmarks/jobs/{study}/{model}/**/{rule}.tsv": "Snakemake's record of each job: seconds, "
    "memory, CPU seconds; disk unless it ran in a fork (docs/performance.md).",
}
