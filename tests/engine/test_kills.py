"""A process that is killed between any two writes leaves no broken file, and an index that heals.

The writer is really killed (SIGKILL), once at each call that reaches a file, a folder or the index, until a
run gets through with no call left to be killed at.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modules import metadata
from modules.engine.history import History, Query
from modules.engine.unfinished import Unfinished

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Processes are not forked here.")

KILLER = """
import os, signal, sys
from pathlib import Path
from PIL import Image
from modules.engine.history import History
from modules.engine.unfinished import Unfinished
from modules.tasks import TextToImage

REACHES = {"execute", "executemany", "commit", "write", "flush", "fsync", "replace", "unlink", "mkdir",
           "open", "connect", "close"}
INFO = TextToImage(prompt="a cat", seed=7).scalars() | {
    "kind": "text_to_image", "seeds": [7], "seconds": 1.0, "model_hash": "0", "timesteps": [], "snr": [],
    "versions": {"epsilon_studio": "0"},
}
PICTURE = Image.linear_gradient("L").convert("RGB").resize((24, 24))

def work(folder):
    history, kept = History(folder), Unfinished(folder / ".unfinished", "grid")
    yield                                   # from here on it may be killed
    first = history.add(PICTURE, INFO)
    kept.seeds({"seed": 3})
    kept.put(0, PICTURE, INFO)
    history.add(PICTURE, INFO)
    history.delete([first.name])

def killed_at(call, folder):
    left = call
    def count(frame, event, fn):
        nonlocal left
        if event == "c_call" and fn.__name__ in REACHES:
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
    steps = work(folder)
    next(steps)
    sys.setprofile(count)
    for _ in steps:
        pass
    sys.setprofile(None)
    os._exit(0)

call = 0
while True:
    child = os.fork()
    if not child:
        killed_at(call, Path(sys.argv[1]) / str(call))
    if os.waitpid(child, 0)[1] == 0:
        break
    call += 1
print(call)
"""


def test_a_kill_at_any_write_breaks_no_file_and_the_index_heals(tmp_path):
    script = [sys.executable, "-c", KILLER, str(tmp_path)]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True)
    points = int(done.stdout)
    assert points > 40
    whole = np.asarray(Image.linear_gradient("L").convert("RGB").resize((24, 24)))
    for point in range(points + 1):
        folder = tmp_path / str(point)
        history = History(folder)
        history.heal()
        files = {path.name for path in folder.glob("*.png")}
        assert {entry.name for entry in history.search(Query(words="cat"))} == files, point
        for path in folder.rglob("*.png"):
            with Image.open(path) as saved:
                assert np.array_equal(np.asarray(saved), whole), (point, path)
                assert metadata.read(saved).task.seed == 7
        kept = Unfinished(folder / ".unfinished", "grid")
        assert kept.seeds({"seed": 4})["seed"] in (3, 4)
        assert kept.seeds({"seed": 5}) == kept.seeds({"seed": 6})
    assert len(files) == 1  # the last one was not killed
