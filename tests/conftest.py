"""What every test shares: few threads, no network, repeatable property tests, and the tiny model family."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "studio",
    deadline=None,  # machines differ, and other work may run beside the tests
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("studio")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Pocket's layout with random weights, made once; tests that break it copy it first."""
    from tests.tiny import write_tiny_family

    return write_tiny_family(tmp_path_factory.mktemp("family") / "tiny")
