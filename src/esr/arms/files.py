"""The files of an arm belong together by their folder; its plan names the model and the arm.

Tables `responses` and `judgments` have no columns `model` and `arm`. Code that reads these tables
of several arms groups the files here, and does not rely on the order of lists of paths.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from esr.errors import EsrError
from esr.tables import read_table


@dataclass(frozen=True)
class ArmFiles:
    """The files of one arm of one model, as far as they were requested."""

    model: str
    arm: str
    plan: Path
    responses: Path | None = None
    judgments: Path | None = None
    scores: Path | None = None


def group_files(
    plans: Iterable[str],
    responses: Iterable[str] = (),
    judgments: Iterable[str] = (),
    scores: Iterable[str] = (),
) -> list[ArmFiles]:
    """Files of each arm, in the order of the plans; an arm without trials is left out.

    Args:
        plans: `<model>/arms/<arm>/plan.parquet`.
        responses: `responses.parquet` in the same folders.
        judgments: Of one judge, in the folder `judgments` of the arms.
        scores: Of one judge, in the folder `scores` of the arms.

    Raises:
        EsrError: a file belongs to no plan, or to the same arm as another of its kind.
    """
    folders = [Path(path).parent for path in plans]
    found = {
        "responses": _by_folder(responses, 0, folders),
        "judgments": _by_folder(judgments, 1, folders),
        "scores": _by_folder(scores, 1, folders),
    }
    arms = []
    for folder in folders:
        plan = read_table(folder / "plan.parquet", "plan")
        if len(plan):
            files = {kind: paths.get(folder) for kind, paths in found.items()}
            model = plan["model"].iloc[0]
            arm = plan["arm"].iloc[0]
            arms.append(ArmFiles(model, arm, folder / "plan.parquet", **files))
    return arms


def _by_folder(paths: Iterable[str], depth: int, folders: list[Path]) -> dict[Path, Path]:
    """Paths by the folder of their arm, `depth` levels above the folder that holds them."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        folder = path.parents[depth]
        if folder not in folders:
            raise EsrError(f"{path} belongs to none of the plans; give the plan of its arm, too")
        if folder in found:
            raise EsrError(f"{path} and {found[folder]} belong to one arm; give one of them")
        found[folder] = path
    return found
