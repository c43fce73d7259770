"""A W&B workspace on the runs of a project: what `report` draws of a folder, kept up by W&B."""

from typing import TYPE_CHECKING, Any

from lookalike.errors import InputError

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

NAME = "lookalike"
FIRST = ("Group", "JobType")  # of W&B's runs: a sweep or a benchmark, and a cell of it
BY_CELL: dict[str, Any] = {
    "groupby": "JobType",
    "groupby_aggfunc": "mean",
    "groupby_rangefunc": "minmax",
}
COSTS = ("training_seconds", "parameters", "images_per_second", "peak_memory_mebibytes")


def save_workspace(project: str, metric: str) -> str:
    """Make a saved view of a W&B project; returns its address. Views that exist stay as they are.

    Args:
        project: "entity/project".
        metric: such as "map_at_r".

    Raises:
        InputError: wandb-workspaces is missing, or W&B refuses or can't be reached.
    """
    view = workspace(project, metric)
    try:
        return view.save().url
    except Exception as error:  # what W&B raises has no common base
        raise InputError(
            f"W&B did not take the workspace of {project} ({str(error).strip()}). Is the name "
            "right, is there a run, and are you logged in (wandb login)?"
        ) from error


def workspace(project: str, metric: str) -> "Workspace":
    """Scores by cell, curves, cost, hyper-parameters and examples, in sections.

    Args:
        project: "entity/project".
        metric: such as "map_at_r".

    Raises:
        InputError: wandb-workspaces is missing, or the project's name is none.
    """
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise InputError(
            "a W&B workspace needs a package more: pip install 'lookalike[workspaces]'"
        ) from error
    entity, _, name = project.partition("/")
    if not entity or not name or "/" in name:
        raise InputError(f"wandb={project}: give entity/project, as in the address of W&B's page")
    return ws.Workspace(
        entity=entity,
        project=name,
        name=NAME,
        sections=[
            ws.Section(name=title, panels=panels, is_open=True)
            for title, panels in _panels(metric).items()
        ],
        runset_settings=ws.RunsetSettings(
            groupby=[ws.Metric(key) for key in FIRST],
            order=[ws.Ordering(ws.Summary(_best(metric)), ascending=False)],
        ),
    )


def _panels(metric: str) -> dict[str, list[Any]]:
    """By section."""
    import wandb_workspaces.reports.v2 as wr

    test = f"test/{metric}"
    tested = dict.fromkeys([test, "test/recall_at_1"])
    curves = [("epoch", f"val/{metric}"), ("trainer/global_step", "train/loss")]
    return {
        "Test": [wr.BarPlot(title=key, metrics=[key], **BY_CELL) for key in tested],
        "Learning": [wr.LinePlot(title=key, x=x, y=[key], **BY_CELL) for x, key in curves],
        "Cost against quality": [
            wr.ScatterPlot(x=wr.SummaryMetric(cost), y=wr.SummaryMetric(test)) for cost in COSTS
        ],
        "What matters": [
            wr.ParameterImportancePlot(with_respect_to=_best(metric)),
            wr.RunComparer(diff_only="split"),
        ],
        "Examples": [wr.WeavePanelSummaryTable(table_name="examples")],
    }


def _best(metric: str) -> str:
    """The highest point of the validation curve, in W&B's summary: see DescribeRun."""
    return f"val/{metric}.max"
