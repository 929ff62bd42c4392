"""Where a picture's time goes is measured here, beside diffusers' own pipeline over the same components."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from modules.bench.machine import processor, resident_megabytes
from modules.settings import Settings, share_cores

BEGUN = time.perf_counter()
share_cores()  # which must come before torch

import torch  # noqa: E402  (importing is one of the things that are timed)

from modules.bench.stock import stock_pipeline  # noqa: E402
from modules.diffusion.schedule import make_scheduler  # noqa: E402
from modules.engine.generation import generate, versions  # noqa: E402
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


def compare(model: LatentModel, task: Task, repeats: int) -> dict[str, Any]:
    """The quickest of interleaved runs of ours and of the stock pipeline, after one unmeasured run of each.

    What else goes on in a machine makes runs longer, and none shorter: so the quickest says most of the code.
    """
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
    seconds = min(splits, key=lambda found: found["total"])
    beside = seconds["total"] - seconds["network"] - seconds["decode"]
    return {
        "seconds": seconds,
        "stock_seconds": min(stocks),
        "ratio": seconds["total"] / min(stocks),
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
        for threads in args.threads or sorted({1, torch.get_num_threads()}):
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
        "stock": "StableDiffusionPipeline, same networks, texts encoded by ours one by one, same noise",
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

    torch.set_num_threads(max(args.threads or [torch.get_num_threads()]))
    record = runtimes.race(stock_pipeline, args.size, args.steps or 4)
    print(runtimes.line(record))
    print(f"At most {resident_megabytes()} MB were held.")
    return record | {"processor": processor(), "versions": dict(versions())}
