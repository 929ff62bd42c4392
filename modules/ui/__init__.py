"""The page: gradio lives in this room and nowhere else; it is given an engine and knows no torch."""

from __future__ import annotations

from functools import partial
from typing import Any

from modules.engine.jobs import Jobs
from modules.ui import api, replay, runs, theme
from modules.ui.page import Page
from modules.ui.toolkit import gr, unserved

__all__ = ["build", "launch_options"]

DAY = 24 * 3600


def build(engine: Any, settings: Any) -> gr.Blocks:
    """The whole page over an engine, and the named endpoints beside it."""
    keep = int(settings.keep_seconds or DAY)
    with (
        unserved(),
        gr.Blocks(
            title="Epsilon Studio",
            analytics_enabled=False,
            fill_width=True,
            delete_cache=(min(keep, 3600), keep),
        ) as blocks,
    ):
        # ZeroGPU lends its GPU to one decorated call at a time: there a run lives as long as its press.
        alone = settings.where == "zerogpu"
        jobs = (
            None
            if alone
            else Jobs(
                partial(runs.work, engine), settings.queue_size, lambda task: engine.forecast(task).seconds
            )
        )
        Page(engine, jobs).assemble(blocks)
        api.add_endpoints(engine, jobs, mcp=settings.mcp)
        replay.add_endpoints(engine)
        return blocks.queue(max_size=settings.queue_size, default_concurrency_limit=8)


def launch_options(settings: Any) -> dict[str, Any]:
    """What `launch()` needs to serve the page as it is meant: our look, no history kept in the browser."""
    return {
        "theme": theme.theme(),
        "css": theme.css(),
        "js": theme.javascript(),
        "favicon_path": str(theme.LOGO),
        "footer_links": ["api"],
        "run_history": False,
        "ssr_mode": False,
        "pwa": False,
        "enable_monitoring": False,
        "max_file_size": "32mb",
        "server_name": settings.host,
        "server_port": settings.port,
        "share": settings.share,
        "mcp_server": settings.mcp,
        "auth": settings.auth,
        "quiet": True,
        "_frontend": False,  # else gradio knocks at its own door and gives up where that takes 3 seconds
    }
