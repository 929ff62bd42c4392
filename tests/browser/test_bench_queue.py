"""The bench of the page weighs what the browser really fetched."""

import pytest

from modules import bench_queue

pytestmark = pytest.mark.browser


def test_the_page_is_weighed_and_a_first_preview_seen(chromium, address):
    found = bench_queue.weigh(chromium, address)
    assert found["requests"] > 5
    assert found["kilobytes"] > 50
    assert found["seconds_until_drawn"] > 0
    assert bench_queue.first_preview(chromium, address, 1) > 0
