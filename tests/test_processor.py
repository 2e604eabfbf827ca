import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pydyn.processor import seconds_waited


def test_waiting_is_while_other_work_has_the_processor():
    if math.isnan(seconds_waited()):
        pytest.skip("this system does not tell how long a thread waits")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # on the same processor
    try:
        start, worked, waited = time.perf_counter(), time.thread_time(), seconds_waited()
        while time.perf_counter() < start + 1.5:
            pass
        waited, worked = seconds_waited() - waited, time.thread_time() - worked
        passed = time.perf_counter() - start
    finally:
        other.kill()
        other.wait()
        os.sched_setaffinity(0, allowed)
    assert waited > 0.1
    assert waited + worked == pytest.approx(passed, rel=0.1)


# The last is what Linux writes where it does not count: its thread has run, so that it is not the truth.
@pytest.mark.parametrize("told", [None, "", "0 0 0\n"])
def test_waiting_is_not_a_number_where_the_system_does_not_tell(monkeypatch, told):
    def read_text(path, encoding):
        if told is None:
            raise FileNotFoundError(path)
        return told

    monkeypatch.setattr(Path, "read_text", read_text)
    assert math.isnan(seconds_waited())
