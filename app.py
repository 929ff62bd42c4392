"""Epsilon Studio: flags become settings, an engine and a page; only here do the halves meet."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from modules.engine.studio import Engine
from modules.images import guard_decoders
from modules.models.catalog import CatalogueError
from modules.settings import Settings, share_cores


def main(argv: Sequence[str] | None = None) -> None:
    """Opens the page, then loads the model behind it; returns when interrupted."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    settings = Settings.from_args(argv)
    share_cores()
    try:
        engine = Engine(settings)
    except CatalogueError as error:
        sys.exit(str(error))
    guard_decoders()

    from modules import ui  # after the flags are read, so that --help and a wrong flag answer at once

    blocks = ui.build(engine, settings)
    _, address, link = blocks.launch(**ui.launch_options(settings), prevent_thread_lock=True)
    print(f"Epsilon Studio is open at {address}")
    if settings.mcp:
        print(f"MCP clients connect to {address}gradio_api/mcp/")
    if link:
        print(f"Shared at {link}")
    for note in (*settings.notes, *engine.notes()):
        print(note)
    print("Ctrl+C closes it.", flush=True)
    engine.start()
    blocks.block_thread()


if __name__ == "__main__":
    main()
