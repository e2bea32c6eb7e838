"""The store on disk: what is written is there, after a crash too."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.rocks import store as rocks
from pipeline.adapters.rocks.store import RocksStore
from pipeline.model.errors import DependencyDown
from tests.support.routing import MemoryStore

keys = st.sampled_from([b"", b"a", b"b" * 16, b"\xff" * 16])
moves = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 2), st.lists(st.tuples(keys, st.binary(max_size=8)))),
    st.tuples(st.just("clear"), st.integers(0, 2), st.just(())),
    st.tuples(st.just("sweep"), st.just(0), st.just(())),
    st.tuples(st.just("open"), st.just(0), st.just(())),
)


@given(story=st.lists(moves, max_size=12))
@settings(max_examples=30, deadline=None)
def test_it_is_a_table_that_outlives_its_process(
    tmp_path_factory: pytest.TempPathFactory, story: list[tuple[str, int, list[tuple[bytes, bytes]]]]
) -> None:
    """Whatever is written, cleared and opened again: it has what a table in memory has."""
    directory = tmp_path_factory.mktemp("rocks") / "window"
    store, model = RocksStore(directory), MemoryStore()
    for move, partition, rows in story:
        if move == "write":
            store.write(partition, rows)
            model.write(partition, rows)
        elif move == "clear":
            store.clear(partition)
            model.clear(partition)
        elif move == "sweep":
            assert store.sweep(short)
            model.sweep(short)
        else:
            store.close()
            store = RocksStore(directory)
    for partition in range(3):
        for key in (b"", b"a", b"b" * 16, b"\xff" * 16):
            assert store.get(partition, key) == model.get(partition, key)
    store.close()


def short(key: bytes, value: bytes) -> bool:
    """What the test calls stale."""
    return key != b"" and len(value) < 4


def test_a_sweep_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slice by slice all rows are looked at, once a pass."""
    monkeypatch.setattr(rocks, "_SLICE", 10)
    store = RocksStore(tmp_path)
    store.write(1, [(b"%02d" % n, b"old" if n % 2 else b"young") for n in range(35)])
    seen: list[bytes] = []

    def stale(key: bytes, value: bytes) -> bool:
        seen.append(key)
        return value == b"old"

    assert [store.sweep(stale) for _ in range(4)] == [False, False, False, True]
    assert seen == [b"%02d" % n for n in range(35)]
    assert [store.get(1, b"%02d" % n) for n in range(4)] == [b"young", None, b"young", None]
    store.close()


def test_rows_written_after_a_clear_stay(tmp_path: Path) -> None:
    """Cleared and opened again and again until its files are merged: what is written then is there."""
    for _ in range(6):
        store = RocksStore(tmp_path)
        store.clear(0)
        store.write(0, [(b"a", b"1")])
        store.close()
        store = RocksStore(tmp_path)
        assert store.get(0, b"a") == b"1"
        store.close()


def _write_and_die(directory: Path) -> None:
    store = RocksStore(directory)
    store.write(1, [(b"%d" % n, b"value") for n in range(1000)])
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """What `write` has returned from is there after `kill -9`, marker and rows alike."""
    process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    store = RocksStore(tmp_path)
    assert all(store.get(1, b"%d" % n) == b"value" for n in range(1000))
    store.close()


def test_damage_makes_it_begin_anew(tmp_path: Path) -> None:
    """A store that cannot be read is thrown away: the log has everything."""
    store = RocksStore(tmp_path)
    store.write(0, [(b"a", b"1")])
    store.close()
    (tmp_path / "CURRENT").write_bytes(b"rubbish")
    store = RocksStore(tmp_path)
    assert store.get(0, b"a") is None
    store.write(0, [(b"a", b"2")])
    assert store.get(0, b"a") == b"2"
    store.close()


def test_two_processes_do_not_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is told who is in the way."""
    monkeypatch.setattr(rocks, "_LOCK", 0.2)
    store = RocksStore(tmp_path)
    with pytest.raises(DependencyDown, match="does not open"):
        RocksStore(tmp_path)
    store.close()
