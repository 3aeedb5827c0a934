"""Throughput between two rows of the log."""

from ugs_jax.training.stopwatch import Stopwatch


def test_rates_count_only_steps_and_waits_since_the_start():
    now = [100.0]
    watch = Stopwatch(batch_size=8, clock=lambda: now[0])
    with watch.waiting():  # for the first batch, before the step that compiles
        now[0] += 50
    assert watch.read() == {"images_per_second": None, "host_wait_share": None}
    watch.start()
    assert watch.read()["images_per_second"] is None
    for _ in range(4):
        with watch.waiting():
            now[0] += 1
        now[0] += 3
        watch.count()
    assert watch.read() == {"images_per_second": 2.0, "host_wait_share": 0.25}
    watch.start()
    assert watch.read()["images_per_second"] is None
