"""Parts that are made while an audit does something else: there when they are asked for, and missed by nobody."""

import faulthandler
import os
import signal
import time
from dataclasses import replace
from functools import partial

import pytest
from bench_nets import pooled, seeded, target_of

from auditor.journal import journaling, kept
from auditor.pipeline import Silent
from auditor.pipeline.workers import Processes, Task, begin_early, count, make_ahead, processes_for, working
from auditor.records import Ceiling


def maker(name: str) -> int:
    """A part that says which process made it."""
    return kept("part", lambda: (name,), os.getpid)


def slow(name: str) -> int:
    """The same, after a while."""
    return kept("part", lambda: (name,), lambda: (time.sleep(0.4), os.getpid())[1])


@pytest.fixture
def two(tmp_path):
    with journaling(tmp_path / "unfinished", "program") as parts:
        processes = Processes(parts, jobs=2)
        with processes.active(Silent()), working(processes):
            yield parts


def test_what_was_begun_early_is_taken_up_and_not_made_again(two):
    arrived = begin_early([Task(run=partial(slow, "late"), seconds=1.0)])
    assert maker("meanwhile") != os.getpid()
    assert two.added + two.taken == 1
    arrived()
    before = len(list(two.folder.glob("*.json")))
    assert slow("late") != os.getpid()
    assert before == len(list(two.folder.glob("*.json"))) == 2


def test_what_nobody_had_begun_is_made_when_it_is_waited_for(tmp_path):
    with journaling(tmp_path / "unfinished", "program") as parts:
        one = Processes(parts, jobs=1)  # this process is the one: nobody is idle
        with one.active(Silent()), working(one):
            arrived = begin_early([Task(run=partial(maker, "late"))])
            assert not list(parts.folder.glob("*.json"))
            arrived()
            assert len(list(parts.folder.glob("*.json"))) == 1
            assert maker("late") != os.getpid()


def test_early_parts_do_not_keep_the_audit_from_what_is_due(two):
    arrived = begin_early([Task(run=partial(slow, f"late {k}"), seconds=1.0) for k in range(3)])
    make_ahead([Task(run=partial(maker, f"due {k}")) for k in range(3)], Silent(), Ceiling())
    due = [maker(f"due {k}") for k in range(3)]
    assert os.getpid() not in due
    begun = time.monotonic()
    arrived()
    assert time.monotonic() - begun < 5.0


def test_copies_make_one_part_after_another_and_nobody_is_told_of_an_interruption(tmp_path):
    told: list[str] = []
    with journaling(tmp_path / "unfinished", "program", told.append) as parts:
        processes = Processes(parts, jobs=2)
        with processes.active(Silent()), working(processes):
            make_ahead([Task(run=partial(slow, f"part {k}")) for k in range(4)], Silent(), Ceiling())
            makers = [slow(f"part {k}") for k in range(4)]
    assert len(set(makers)) == 2
    assert not told


def test_a_process_that_is_ended_early_costs_its_parts_nothing(two, tmp_path):
    def once(here: int = os.getpid()) -> int:
        if not (tmp_path / "ended").exists() and os.getpid() != here:
            (tmp_path / "ended").touch()
            faulthandler.disable()  # of pytest: what it would print is no news
            os.kill(os.getpid(), signal.SIGSEGV)
        return os.getpid()

    def part() -> int:
        return kept("part", lambda: ("broken",), once)

    begin_early([Task(run=part)])()
    assert (tmp_path / "ended").exists()
    assert part() != os.getpid()


def test_small_networks_get_a_process_a_core_and_large_ones_none(tmp_path, monkeypatch):
    target = target_of(seeded(pooled))
    monkeypatch.setattr(count.os, "sched_getaffinity", lambda process: set(range(4)))
    monkeypatch.setattr(count, "available_bytes", lambda device: 2**40)
    monkeypatch.setattr(count, "_QUOTA", tmp_path / "cpu.max")
    assert processes_for(target) == 4
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert processes_for(target) == 4
    (tmp_path / "cpu.max").write_text("250000 100000\n")  # a container of two and a half processors
    assert processes_for(target) == 2
    monkeypatch.setattr(count, "available_bytes", lambda device: 0)
    assert processes_for(target) == 1
    assert processes_for(replace(target, input=replace(target.input, height=512, width=512))) == 0
