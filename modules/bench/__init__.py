"""Every number in the README is measured here: where a picture's time goes, beside diffusers' own pipeline.

python -m modules.bench --parts start panel speed
python -m modules.bench [--model pocket] [--steps 20] [--repeats 3] [--batches 1 4] [--threads 1 2]
python -m modules.bench --parts editing
python -m modules.bench --parts runtimes [--size 512] [--steps 4]
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from modules.settings import Settings, share_cores

BEGUN = time.perf_counter()
share_cores()  # which must come before torch

import torch  # noqa: E402  (importing is one of the things that are timed)

from modules.diffusion.schedule import make_scheduler  # noqa: E402
from modules.engine.generation import generate, noise, versions  # noqa: E402
from modules.engine.studio import Engine, what_runs_where  # noqa: E402
from modules.models.latent import LatentModel  # noqa: E402
from modules.models.loading import load  # noqa: E402
from modules.tasks import Task, TextToImage  # noqa: E402

IMPORTED = time.perf_counter()
TARGET = 0.05
PROMPT = "a red apple on a blue background"


class Clock:
    """Seconds by name, measured around calls."""

    def __init__(self, device: torch.device):
        self.device, self.spent = device, defaultdict[str, float](float)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add what happens inside to `name`, waiting for the accelerator on both sides."""
        self._settle()
        begun = time.perf_counter()
        yield
        self._settle()
        self.spent[name] += time.perf_counter() - begun

    def _settle(self) -> None:
        if self.device.type in ("cuda", "xpu", "mps"):
            getattr(torch, self.device.type).synchronize()


class Timed:
    """Any object, with calls to it, and to its `decode`, on the clock."""

    def __init__(self, inner: Any, clock: Clock, name: str):
        self.inner, self.clock, self.name = inner, clock, name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.inner, attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock.timing(self.name):
            return self.inner(*args, **kwargs)

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock.timing(self.name):
            return self.inner.decode(*args, **kwargs)


def split(model: LatentModel, task: Task) -> dict[str, float]:
    """Seconds of one run of ours: total, network, text, decode, scheduler, and everything else.

    The scheduler's own share is measured by walking it once more, alone, on latents of the same shape.
    """
    clock = Clock(model.device)
    timed = replace(
        model,
        unet=Timed(model.unet, clock, "network"),
        autoencoder=Timed(model.autoencoder, clock, "decode"),
        text=Timed(model.text, clock, "text"),
    )
    with clock.timing("total"):
        for _ in generate(timed, task):
            pass
    shape = (task.batch_size, *model.latent_shape(task.width, task.height))
    with clock.timing("scheduler"):
        walk_alone(model, task, torch.randn(shape))
    found = dict(clock.spent)
    parts = sum(found[name] for name in ("network", "decode", "text", "scheduler"))
    return found | {"everything else": found["total"] - parts}


def walk_alone(model: LatentModel, task: Task, latents: torch.Tensor) -> None:
    """Take every scheduler step of a task, with the latents themselves for a prediction."""
    walk = make_scheduler(task.sampler, task.schedule, model.noise_schedule).walk(task.steps)
    for timestep in walk.timesteps:
        x = walk.scheduler.scale_model_input(latents, timestep)
        latents = walk.scheduler.step(x, timestep, latents, return_dict=False)[0]


class StockAutoencoder(torch.nn.Module):
    """Any autoencoder with the face that StableDiffusionPipeline expects of AutoencoderKL."""

    def __init__(self, model: LatentModel):
        super().__init__()
        self.inner = model.autoencoder
        depth = round(math.log2(model.factor)) + 1
        scaling = model.autoencoder.config.scaling_factor
        self.config = SimpleNamespace(block_out_channels=(0,) * depth, scaling_factor=scaling)
        self.dtype, self.device = model.autoencoder.dtype, model.device

    def decode(self, latents: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
        """Latents to pictures, in a tuple."""
        return (self.inner.decode(latents.to(self.dtype)).sample,)


def stock_pipeline(model: LatentModel, task: Task) -> Callable[[], Any]:
    """A function that makes the task's pictures with StableDiffusionPipeline and the same networks.

    The text is encoded outside, by ours, and passed as prompt_embeds. Networks with a guidance embedding
    (Pocket's waits for its student) get a zero one, or the pipeline would not guide at all.
    """
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    class Stock(StableDiffusionPipeline):
        @property
        def do_classifier_free_guidance(self) -> bool:
            return self.guidance_scale > 1

        def get_guidance_scale_embedding(
            self, w: Any, embedding_dim: int = 512, dtype: Any = None
        ) -> torch.Tensor:
            return torch.zeros(1, embedding_dim)

    if (task.sampler, task.schedule) != ("DPM++ 2M", "karras"):
        raise ValueError("The stock pipeline is set up for DPM++ 2M on the karras schedule.")
    scheduler = DPMSolverMultistepScheduler.from_config(
        {**model.card.scheduler_config(), "_class_name": "DPMSolverMultistepScheduler"},
        use_karras_sigmas=True,
    )
    parts: Any = (StockAutoencoder(model), None, None, model.unet, scheduler, None, None)
    pipeline = Stock(*parts, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)

    def run() -> Any:
        conditions = model.conditions(task)
        each = task.batch_size
        words, no_words = conditions.weighted[0][0].states, conditions.base.states
        generators = [torch.Generator().manual_seed(task.seed + i) for i in range(each)]
        start = noise(generators, model.latent_shape(task.width, task.height))
        answer: Any = pipeline(
            prompt_embeds=words.expand(each, -1, -1).to(model.dtype),
            negative_prompt_embeds=no_words.expand(each, -1, -1).to(model.dtype),
            latents=start.to(model.device, model.dtype),
            num_inference_steps=task.steps,
            guidance_scale=task.guidance_scale,
            width=task.width,
            height=task.height,
        )
        return answer.images

    return run


def compare(model: LatentModel, task: Task, repeats: int) -> dict[str, Any]:
    """Medians over interleaved runs of ours and of the stock pipeline, after one unmeasured run of each."""
    import numpy as np

    stock, clock = stock_pipeline(model, task), Clock(model.device)
    *_, ours = generate(model, task)
    theirs = stock()
    pairs = zip(ours.images, theirs)  # type: ignore[union-attr]
    apart = max(int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max()) for a, b in pairs)
    splits, stocks = [], []
    for _ in range(repeats):
        splits.append(split(model, task))
        clock.spent.clear()
        with clock.timing("stock"):
            stock()
        stocks.append(clock.spent["stock"])
    seconds = {name: statistics.median(found[name] for found in splits) for name in splits[0]}
    theirs_seconds = statistics.median(stocks)
    beside = seconds["total"] - seconds["network"] - seconds["decode"]
    return {
        "seconds": seconds,
        "stock_seconds": theirs_seconds,
        "ratio": seconds["total"] / theirs_seconds,
        "share_beside_network_and_decode": beside / seconds["total"],
        "largest_pixel_difference": apart,
        "runs": {"ours": [found["total"] for found in splits], "stock": stocks},
    }


def bench(args: argparse.Namespace) -> dict[str, Any]:
    """Every combination of precision, threads and batch size, as one JSON-able record."""
    engine = Engine(Settings(model=args.model, device=args.device))
    card = engine.catalog[engine.default_model]
    rows = []
    for dtype in args.dtypes:
        begun = time.perf_counter()
        model = load(card, args.device, dtype)
        loaded = time.perf_counter() - begun
        for threads in args.threads:
            torch.set_num_threads(threads)
            for batch in args.batches:
                task = TextToImage(
                    prompt=PROMPT, seed=0, steps=args.steps, batch_size=batch, model=card.id,
                    width=card.width, height=card.height,
                )  # fmt: skip
                row = compare(model, task, args.repeats)
                row = {"dtype": dtype, "threads": threads, "batch": batch, "load_seconds": loaded, **row}
                rows.append(row)
                print(line(row), flush=True)
    return {
        "model": card.id, "model_hash": model.hash, "what": what_runs_where(model), "steps": args.steps,
        "size": [card.width, card.height], "sampler": "DPM++ 2M", "schedule": "karras", "rows": rows,
        "import_seconds": IMPORTED - BEGUN, "resident_megabytes": resident_megabytes(),
        "stock": "StableDiffusionPipeline, same networks, prompt_embeds, same noise",
        "processor": processor(), "versions": dict(versions()),
    }  # fmt: skip


HEADINGS = (
    "precision",
    "threads",
    "batch",
    "seconds",
    "network",
    "decode",
    "text",
    "scheduler",
    "else",
    "beside",
)


def line(row: dict[str, Any]) -> str:
    """One row of the table that is printed."""
    found = row["seconds"]
    shares = "".join(
        f"{found[name] / found['total']:>10.1%}" for name in ("network", "decode", "text", "scheduler")
    )
    verdict = "" if row["share_beside_network_and_decode"] <= TARGET else f"  over {TARGET:.0%}"
    return (
        f"{row['dtype']:>10}{row['threads']:>10}{row['batch']:>10}{found['total']:>10.3f}{shares}"
        f"{found['everything else'] / found['total']:>10.1%}{row['share_beside_network_and_decode']:>10.1%}"
        f"   stock {row['stock_seconds']:.3f} s, ratio {row['ratio']:.3f}{verdict}"
    )


def resident_megabytes() -> int | None:
    """The most memory that this process has held, where the system tells."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if platform.system() == "Darwin" else 1 << 10))


def processor() -> str:
    """The name of the CPU, as far as it tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(row.partition(":")[2].strip() for row in lines if row.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """The table of where the time goes, printed as it grows."""
    args.steps = args.steps or 20
    print("".join(f"{heading:>10}" for heading in HEADINGS))
    record = bench(args)
    print(record["what"])
    print(
        f"Imports took {record['import_seconds']:.1f} s; at most {record['resident_megabytes']} MB were held."
    )
    return record


def race(args: argparse.Namespace) -> dict[str, Any]:
    """The race of runtimes on a U-Net of Stable Diffusion's size."""
    from modules.bench import runtimes

    torch.set_num_threads(max(args.threads))
    record = runtimes.race(stock_pipeline, args.size, args.steps or 4)
    print(runtimes.line(record))
    print(f"At most {resident_megabytes()} MB were held.")
    return record | {"processor": processor(), "versions": dict(versions())}


def first_use(args: argparse.Namespace) -> dict[str, Any]:
    """How soon the page answers and the first picture is there."""
    from modules.bench import start

    return start.bench(args.model, args.device)


def redraws(args: argparse.Namespace) -> dict[str, Any]:
    """How long the levels for one redraw of the panel take."""
    from modules.bench import panel

    return panel.bench(args.model)


def edits(args: argparse.Namespace) -> dict[str, Any]:
    """What control maps and a mask cost, beside a plain picture."""
    from modules.bench import editing

    engine = Engine(Settings(model=args.model, device=args.device))
    model = load(engine.catalog[engine.default_model], args.device, args.dtypes[0])
    torch.set_num_threads(max(args.threads))
    return editing.bench(model, args.steps or 20, args.repeats)


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "start": first_use,
    "panel": redraws,
    "speed": speed,
    "editing": edits,
    "runtimes": race,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Print what was measured, part by part, and write the record where asked."""
    parser = argparse.ArgumentParser(
        prog="python -m modules.bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["speed"], help="what to measure")
    parser.add_argument("--model", default="pocket", help="a model of the catalogue, or a folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, help="20, and 4 in the race of runtimes, if not given")
    parser.add_argument("--size", type=int, default=512, help="pixels a side in the race of runtimes")
    parser.add_argument("--repeats", type=int, default=3, help="measured runs of each; medians are shown")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, torch.get_num_threads()}))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, help="write the whole record to this JSON file")
    args = parser.parse_args(argv)
    records = {part: PARTS[part](args) for part in args.parts}
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        written = records if len(records) > 1 else records[args.parts[0]]
        args.out.write_text(json.dumps(written, indent=1), "utf-8")
