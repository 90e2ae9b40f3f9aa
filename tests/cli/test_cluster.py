"""Scans whose shards a Ray cluster makes: who may be asked, and the same results though a worker is killed."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from short_scans import scanning, short

from auditor.cli.scale.cluster import check_engine, make_on_cluster
from auditor.content_key import program_key
from auditor.errors import UsageError
from auditor.journal import journaling
from auditor.pipeline import ScanOptions, Silent, scan
from auditor.results.repeatable import without_times

TESTS = Path(__file__).parent.parent
OPTIONS = ScanOptions(model=f"{TESTS / 'models_for_scans.py'}:tiny", input_shape=(3, 4, 16, 16), device="cpu")
PRESET = short(50, attacks=("least-squares-matching",))
# Runs before anything else in every process of Python: a shard has few steps, and the first one takes its worker along.
BEFORE = """
import os, signal, sys
if "auditor.cli.scale.shard_process" in sys.orig_argv:
    try:
        os.close(os.open({flag!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        sys.path[:0] = [{tests!r}]
        from short_scans import PRESETS, short
        PRESETS["fast"] = short(50, attacks=("least-squares-matching",))
    else:
        os.kill(os.getppid(), signal.SIGKILL)
        os._exit(1)
"""


@pytest.mark.parametrize("engine", ["ray://10.1.2.3:10001", "ray://cluster.example.org:10001"])
def test_another_machine_has_to_ask_for_a_token(engine, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(UsageError, match="could run programs there"):
        check_engine(engine)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    check_engine(engine)


@pytest.mark.parametrize("engine", ["ray", "ray://127.0.0.1:10001", "ray://[::1]:10001", "ray://localhost:10001"])
def test_this_machine_may_be_asked(engine, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    check_engine(engine)


@pytest.mark.parametrize("engine", ["dask", "ray://", "http://127.0.0.1:10001", "127.0.0.1:10001"])
def test_what_is_no_engine_is_refused(engine):
    with pytest.raises(UsageError, match="is no engine"):
        check_engine(engine)


def test_without_ray_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(UsageError, match=r"fl-audit\[ray\]"):
        make_on_cluster(OPTIONS, "ray", 2, tmp_path, lambda text: None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_two_workers_of_a_real_cluster_come_to_the_same_results_though_one_is_killed(tmp_path, monkeypatch):
    site, flag = tmp_path / "site", tmp_path / "killed"
    site.mkdir()
    (site / "sitecustomize.py").write_text(BEFORE.format(flag=str(flag), tests=str(TESTS)))
    inherited = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(TESTS.parent), inherited]))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    notes: list[str] = []
    make_on_cluster(OPTIONS, "ray", 2, tmp_path / "parts", notes.append)
    assert flag.exists()
    assert sorted(notes[1:]) == ["shard 1 of 2 is there", "shard 2 of 2 is there"]
    with scanning(PRESET, enhanced=0, controls_anew=True):
        alone = scan(OPTIONS, Silent()).results
        with journaling(tmp_path / "parts", program_key()) as parts:
            before = parts.units
            joined = scan(OPTIONS, Silent()).results
    assert parts.taken == before
    assert [f["attack"] for f in alone["findings"]] == ["least-squares-matching"]
    assert without_times(joined) == without_times(alone)
