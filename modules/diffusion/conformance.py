"""Every sampler is put to the test of a world whose answer is known, and the outcome drawn, here.

``python -m modules.diffusion.conformance --out FILE.svg`` walks every sampler over every spacing with the
exact denoiser of N(0, 0.5**2), whose samples must reach a standard deviation of 0.5 as steps grow. The LCM
sampler, made for distilled networks, gets the exact consistency function instead. Needs matplotlib
(requirements-dev.txt).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from modules.diffusion.exact import Gaussian, consistency_denoiser, denoiser
from modules.diffusion.flow import Noise
from modules.diffusion.noise import STABLE_DIFFUSION
from modules.diffusion.sampling import sample
from modules.diffusion.schedule import SAMPLERS, make_scheduler, spacings_for

WORLD = Gaussian(std=0.5)
STEPS = (5, 10, 20, 40, 80, 160)
DRAWS, FEW_DRAWS = 16384, 2048


@dataclass(frozen=True)
class Outcome:
    """What one walk came to: how many network calls it made, and the standard deviation of its samples."""

    sampler: str
    spacing: str
    steps: int
    calls: int
    std: float

    @property
    def error(self) -> float:
        """How far the standard deviation is from the truth."""
        return abs(self.std - WORLD.std)


def even_normals(count: int) -> torch.Tensor:
    """So many draws from N(0, 1) at its quantiles, of variance exactly 1, so that chance plays no part."""
    places = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    values = torch.special.ndtri(places)
    return (values / values.square().mean().sqrt()).float().reshape(1, 1, 1, count)


def outcome(
    sampler: str,
    spacing: str,
    steps: int,
    noise_schedule: Noise = STABLE_DIFFUSION,
    draws: int = DRAWS,
) -> Outcome:
    """Walk ``draws`` samples from the true spread at the first level, and look where they end."""
    scheduler = make_scheduler(sampler, spacing, noise_schedule)
    best = (consistency_denoiser if sampler == "LCM" else denoiser)(WORLD, noise_schedule)
    _, alpha, sigma = scheduler.walk(steps).levels.at(0)
    start = even_normals(draws) * WORLD.marginal_std(alpha, sigma)
    generators = [torch.Generator().manual_seed(steps)]
    *_, last = sample(best, scheduler, start, steps, generators=generators)
    return Outcome(sampler, spacing, steps, last.total, float(last.latents.double().square().mean().sqrt()))


def approach(sampler: str, spacing: str) -> list[dict[str, float]]:
    """How one sampler nears the truth as its steps grow, at once: few draws, which are exact in spread."""
    outcomes = [
        outcome(sampler, spacing, steps, draws=FEW_DRAWS)
        for steps in (1, 2, *STEPS)
        if steps <= SAMPLERS[sampler].max_steps
    ]
    return [{"steps": each.steps, "calls": each.calls, "std": each.std} for each in outcomes]


def survey(numbers_of_steps: Sequence[int] = STEPS, draws: int = DRAWS) -> Iterable[Outcome]:
    """Every sampler, every spacing of its, every number of steps that it takes."""
    for sampler, kind in SAMPLERS.items():
        for spacing in spacings_for(sampler):
            for steps in numbers_of_steps:
                if steps <= kind.max_steps:
                    yield outcome(sampler, spacing, steps, draws=draws)


def table(outcomes: Sequence[Outcome], numbers_of_steps: Sequence[int]) -> str:
    """One line for every sampler and spacing: the standard deviation at each number of steps."""
    found = {(each.sampler, each.spacing, each.steps): each.std for each in outcomes}
    lines = [f"{'sampler':<14}{'spacing':<13}" + "".join(f"{steps:>8}" for steps in numbers_of_steps)]
    for sampler in SAMPLERS:
        for spacing in spacings_for(sampler):
            stds = [found.get((sampler, spacing, steps)) for steps in numbers_of_steps]
            cells = "".join(f"{std:>8.4f}" if std is not None else f"{'-':>8}" for std in stds)
            lines.append(f"{sampler:<14}{spacing:<13}{cells}")
    return "\n".join(lines)


def plot(outcomes: Sequence[Outcome], path: str) -> None:
    """One small panel a sampler (std against steps) and a wide one (error against network calls)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    spacings = list(dict.fromkeys(each.spacing for each in outcomes))
    colours = {spacing: f"C{index}" for index, spacing in enumerate(spacings)}
    figure = pyplot.figure(figsize=(13, 15), layout="constrained")
    grid = figure.add_gridspec(6, 5)
    for index, sampler in enumerate(SAMPLERS):
        axes = figure.add_subplot(grid[index // 5, index % 5])
        draw_sampler(axes, [each for each in outcomes if each.sampler == sampler], colours)
        axes.set_title(sampler, fontsize=10)
        if index // 5 == 3:
            axes.set_xlabel("steps")
        if index % 5 == 0:
            axes.set_ylabel("std of the samples")
    legend = figure.add_subplot(grid[3, 4])
    legend.axis("off")
    marks = [legend.plot([], [], colour, marker=".", label=name)[0] for name, colour in colours.items()]
    legend.legend(handles=marks, title="spacing", loc="center", ncols=2, frameon=False)
    draw_errors(figure.add_subplot(grid[4:, :]), outcomes)
    figure.suptitle("The exact denoiser of N(0, 0.5²): every sampler must bring the spread to 0.5")
    figure.savefig(path, dpi=110)


def draw_sampler(axes: object, outcomes: Sequence[Outcome], colours: dict[str, str]) -> None:
    """One sampler's standard deviation against steps, a line a spacing, and the truth in grey."""
    axes.axhline(WORLD.std, color="0.6", linewidth=0.8)  # pyright: ignore[reportAttributeAccessIssue]
    for spacing, colour in colours.items():
        line = [(each.steps, each.std) for each in outcomes if each.spacing == spacing]
        if line:
            axes.plot(*zip(*line, strict=True), colour, marker=".", linewidth=1)  # pyright: ignore
    axes.set(xscale="log", ylim=(0.3, 0.7), xlim=(4, 200))  # pyright: ignore[reportAttributeAccessIssue]


def draw_errors(axes: object, outcomes: Sequence[Outcome]) -> None:
    """Every sampler's error against network calls, on its Karras spacing where it has one."""
    for index, sampler in enumerate(SAMPLERS):
        spacing = "karras" if "karras" in spacings_for(sampler) else "default"
        line = [
            (each.calls, each.error)
            for each in outcomes
            if each.sampler == sampler and each.spacing == spacing
        ]
        style = ("-", "--", ":")[index // 10]
        axes.plot(*zip(*line, strict=True), style, marker=".", label=f"{sampler} ({spacing})")  # pyright: ignore
    axes.set(xscale="log", yscale="log", xlabel="network calls", ylabel="error of the std")  # pyright: ignore
    axes.legend(fontsize=8, ncols=2, loc="lower left")  # pyright: ignore[reportAttributeAccessIssue]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and, where asked, draw the picture."""
    parser = argparse.ArgumentParser(description="Check every sampler against the exact Gaussian denoiser.")
    parser.add_argument("--out", metavar="FILE", help="where to draw the result: .svg, .png or .pdf")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="numbers of steps to try")
    parser.add_argument("--draws", type=int, default=DRAWS, help="samples walked at once")
    chosen = parser.parse_args(arguments)
    outcomes = list(survey(chosen.steps, chosen.draws))
    print(table(outcomes, chosen.steps))
    if chosen.out:
        plot(outcomes, chosen.out)


if __name__ == "__main__":
    main()
