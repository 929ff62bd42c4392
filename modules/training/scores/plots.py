"""The plots of the scores."""

from pathlib import Path
from typing import Any

INKS = ("#b8430c", "#1c6c86", "#5b7d1f", "#7a3f98", "#c08a00", "#444444", "#d3568c", "#2b6cb0", "#0f9d7a")
CALLS = (4, 8, 12, 20, 30, 50, 100, 250, 1000)
CLAIMS = (("DPM-Solver", 20, 25), ("DDIM, Euler", 20, 50))
"""In how many calls papers say that samplers match 1000 steps of DDPM."""


def _figure(columns: int = 1, width: float = 7.0) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(1, columns, figsize=(width, 3.6), layout="constrained")


def lines(series: dict[str, list[tuple[float, float]]], across: str, title: str, path: Path) -> None:
    """Some shares against one weight."""
    figure, axes = _figure()
    for (name, points), ink in zip(series.items(), INKS):
        axes.plot(*zip(*points), color=ink, marker="o", label=name)
    top = max(value for points in series.values() for _, value in points)
    axes.set(xlabel=across, ylim=(0, max(1.02, top * 1.05)), title=title)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=120)


def samplers_plot(scores: dict[str, Any], path: Path) -> None:
    """Classes named right, kernel distance and distance off the fine picture, each against network calls."""
    figure, panels = _figure(3, 15)
    measures = {
        "right": "class named right",
        "beyond true pictures": "kernel distance, less that of as many true pictures",
        "off the fine picture": f"off the same seed's picture by {scores['fine picture']}",
    }
    walks = scores["walks"]
    counts = sorted({row["pictures"] for row in walks})
    calls = [count for count in CALLS if count <= max(row["calls"] for row in walks)]
    for axes, (measure, title) in zip(panels, measures.items()):
        for name, ink in zip(dict.fromkeys(row["sampler"] for row in walks), INKS):
            points = [
                (row["calls"], row[measure]) for row in walks if row["sampler"] == name and measure in row
            ]
            if points:
                axes.plot(*zip(*points), color=ink, marker="o", markersize=3, linewidth=1.2, label=name)
        best = {"right": scores["true pictures"][-1]["right"], "beyond true pictures": 0.0}
        if measure in best:
            axes.axhline(best[measure], color="black", linestyle=":", label="true pictures")
        for i, (claim, low, high) in enumerate(CLAIMS):
            axes.axvspan(low, high, color="black", alpha=0.06)
            axes.text(low, 0.98 - 0.05 * i, claim, fontsize=6, va="top", transform=axes.get_xaxis_transform())
        axes.set(xscale="log", xlabel="network calls")
        axes.set_title(title, fontsize=9)
        axes.set_xticks(calls, [str(count) for count in calls], fontsize=7)
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.25)
    panels[0].legend(frameon=False, fontsize=7)
    figure.suptitle(
        f"A point: {' or '.join(map(str, counts))} pictures of {len(scores['classes'])} classes, unguided; "
        "grey: where papers say that 1000 steps of DDPM are matched",
        fontsize=9,
    )
    figure.savefig(path, dpi=110)
