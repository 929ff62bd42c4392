"""What every test shares: few threads, no network, repeatable property tests, and the tiny model family."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from hypothesis import HealthCheck, settings

settings.register_profile(
    "studio",
    deadline=None,  # machines differ, and other work may run beside the tests
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("studio")
