"""Inputs of a study that its deposit holds."""

from esr.config import DOWNLOADS, Config


def study_inputs(config: Config) -> list[str]:
    """Files that a person wrote and the study reads: configuration, prompts, claims.

    Downloaded prompts are left out, be they of the study or of an arm: they are not this project's
    to distribute, and the same rule downloads them again.
    """
    prompts = [config.prompts, *(arm.prompts for arm in config.arms.values() if arm.prompts)]
    own = [path for path in prompts if not path.is_relative_to(DOWNLOADS)]
    files = [path.as_posix() for path in (*own, *config.claims)]
    return sorted({"config.yaml", f"studies/{config.study}.yaml", *files})
