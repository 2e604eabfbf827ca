"""A signal to stop, and the time that a scheduler leaves."""

import os
import signal

import pytest

from pydyn.training import stopping
from pydyn.training.stopping import asked_to_stop, parse_time_left


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("59", 59),
        ("4:59", 299),
        ("1:00:00", 3600),
        ("2-03:04:05", 2 * 86400 + 3 * 3600 + 4 * 60 + 5),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("NOT_SET", None),
        ("", None),
    ],
)
def test_what_slurm_says_is_left(text, seconds):
    assert parse_time_left(text) == seconds


def squeue_says(tmp_path, monkeypatch, text):
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho '{text}'\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")


@pytest.mark.parametrize(("text", "early"), [("10:00", 120), ("1:00", 12)])
def test_a_job_stops_before_its_time_is_up(tmp_path, monkeypatch, text, early):
    squeue_says(tmp_path, monkeypatch, text)
    now = 1000.0
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now)
    with asked_to_stop() as stop:
        now += parse_time_left(text) - early
        assert not stop()
        now += 0.1
        assert stop()


def test_without_a_limit_only_a_signal_stops(tmp_path, monkeypatch):
    squeue_says(tmp_path, monkeypatch, "UNLIMITED")
    before = signal.getsignal(signal.SIGTERM)
    with asked_to_stop() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_of_slurm_nobody_is_asked(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("PATH", "")
    with asked_to_stop() as stop:
        assert not stop()
