"""Make judges/<judge>/model.json: source, revision and checksums of a judge's weights."""

import json
from typing import Any

from esr.assets.checkpoints import describe_local_model, fetch_hub_model
from esr.assets.hub import go_offline_without_network
from esr.config import VllmJudgeConfig
from esr.job import config_of, origin, output, start


def describe_judge(judge: VllmJudgeConfig) -> dict[str, Any]:
    """Manifest of a judge, whose weights are fetched first if they are on the hub."""
    if judge.is_local:
        return describe_local_model(judge.folder)
    return fetch_hub_model(judge.source, str(judge.revision))


def main(job: Any) -> None:
    """Write the manifest."""
    judge = config_of(job).judging.local[job.wildcards.judge]
    if not judge.is_local:
        go_offline_without_network()
    manifest = describe_judge(judge) | {"esr": origin(job)}
    output(job).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(start(snakemake))
