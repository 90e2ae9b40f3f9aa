"""An interrupt ends a command even where Python drops what its handler raises."""

import gc
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from error_lines import error_after_progress

from auditor.cli.screen import starting
from auditor.signals import interrupts_held

MODELS = Path(__file__).parents[1] / "models_for_scans.py"

# What begins a copy also imports: this drops the first signal there, as importlib's own weak references did.
DROPPED = """
    import os, signal, sys, weakref
    from auditor.pipeline.workers import processes

    class Thing: ...

    def dropping(name):
        thing = Thing()
        kept = weakref.ref(thing, lambda gone: (os.kill(os.getpid(), signal.{number}), [None for _ in range(1000)]))
        del thing

    sys.unraisablehook = lambda dropped: print("dropped", dropped.exc_type.__name__)
    processes.import_module = dropping
    from auditor.__main__ import main
    main()
"""


@pytest.mark.parametrize("number", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_an_interrupt_that_python_dropped_still_ends_the_scan(tmp_path, number):
    code = textwrap.dedent(DROPPED.format(number=number))
    done = subprocess.run(
        [sys.executable, "-c", code, "scan", f"{MODELS}:tiny", "--input-shape", "3,4,16,16", "--preset", "fast",
         "--jobs", "2", "--out", "report"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert "dropped KeyboardInterrupt" in done.stdout
    assert done.returncode == 130
    assert "interrupted; no report was written" in error_after_progress(done.stderr)


def test_an_ignored_interrupt_stays_ignored():
    code = (
        "import signal; from auditor.signals import listen_to_interrupts; listen_to_interrupts();"
        "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    for action, ignored in ((signal.SIG_IGN, "True"), (signal.SIG_DFL, "False")):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            preexec_fn=lambda action=action: signal.signal(signal.SIGINT, action),
        )  # fmt: skip
        assert done.stdout.strip() == ignored


def test_interrupts_wait_until_a_process_is_started():
    """In a process of one thread: the kernel gives a signal that the main thread holds to any other of the process."""
    code = """
        import os, signal
        from auditor.signals import interrupts_held

        signal.signal(signal.SIGINT, signal.default_int_handler)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        started = []
        try:
            with interrupts_held():
                os.kill(os.getpid(), signal.SIGINT)
                started.append(True)
        except KeyboardInterrupt:
            print("raised", started, signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "raised [True] True"


def test_a_process_never_sees_an_interrupt_that_comes_while_it_starts():
    ask = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"

    def shielded() -> str:
        return subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()

    assert shielded() == "False"
    with interrupts_held():
        assert shielded() == "True"
    assert shielded() == "False"


def test_a_handler_that_another_thread_calls_for_waits_too():
    """Python calls a handler in the main thread whoever was given the signal, and whatever that thread blocks."""
    code = """
        import os, signal, threading, time
        from auditor.signals import interrupts_held, listen_to_interrupts

        listen_to_interrupts()
        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
        started = []
        try:
            with interrupts_held():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.2)
                started.append(True)
        except KeyboardInterrupt:
            print("raised", started)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "raised [True]"


@pytest.mark.parametrize("code", [0, 130])
def test_an_interrupt_changes_nothing_once_all_is_told(code):
    """Python waits for its threads when it ends: an interrupt there was a traceback behind the command's last line."""
    script = f"""
        import os, signal, threading, time
        from auditor.signals import end_with, listen_to_interrupts

        def late():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

        listen_to_interrupts()
        threading.Thread(target=late).start()
        print("told")
        end_with({code})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=50,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, "told\n", "")


@pytest.mark.parametrize("late", [0.0, 0.1, 0.3])
def test_an_interrupt_changes_nothing_while_python_takes_itself_down(late):
    """Python restores the system's handlers before it unloads torch: the code was that of a signal then."""
    script = (
        "import torch, auditor.pipeline.scan\nfrom auditor.signals import end_with, listen_to_interrupts\n"
        "listen_to_interrupts()\nend_with(4, lambda: print('told', flush=True))"
    )
    job = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert job.stdout.readline() == "told\n"
    time.sleep(late)
    job.send_signal(signal.SIGINT)
    assert job.communicate(timeout=50)[1] == ""
    assert job.returncode == 4


def test_garbage_is_collected_again_once_a_command_has_started():
    with starting():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="broken"), starting():
        raise ValueError("broken")
    assert gc.isenabled()
