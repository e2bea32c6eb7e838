"""A RocksDB of this process alone: rows by partition number.

It is a copy of what the log holds and may be lost or removed at any time. A write is in the operating
system's hands when `write` returns: it outlives `kill -9`, and after a power cut the rows that are left
are those of an earlier moment, marker and all.

Neither its time to live nor its range deletes are used: together they lost rows that were written after
the delete, at the next compaction (rocksdict 0.3.29, in 13 to 15 of 15 trials).
"""

import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from pathlib import Path

from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteOptions

from pipeline.model.errors import DependencyDown
from pipeline.observe import Log

_KEY = struct.Struct(">H")
_BY_KEY = itemgetter(0)
_MEMTABLE = 16 * 1024 * 1024  # bytes, of which three are kept: 300,000 rows each
_CACHE = 64 * 1024 * 1024  # bytes, with the filters: 10 bits a row, 12 MB for ten million
_SLICE = 5_000  # rows of one look: 5 ms
_LOCK = 10.0  # seconds that a predecessor, which may be dying, gets to let go
_log = Log(__name__)


class RocksStore:
    """The port `Store` of the router. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        """Open or create. Raises DependencyDown when another process has it or the disk refuses."""
        self._db = _open(directory)
        self._db.set_write_options(_write_options())
        self._swept = b""  # up to where

    def get(self, partition: int, key: bytes) -> bytes | None:
        """The value, if there is one."""
        return self._db.get(_KEY.pack(partition) + key)

    def write(self, partition: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """All rows at once."""
        prefix = _KEY.pack(partition)
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        # Neighbours go in one behind the other: a third less, sorting included. The last of a key still wins.
        for key, value in sorted(rows, key=_BY_KEY):
            put(prefix + key, value)
        self._db.write(batch)

    def clear(self, partition: int) -> None:
        """Forget the partition."""
        prefix = _KEY.pack(partition)
        while found := [key for key, _ in self._rows(prefix, _SLICE) if key.startswith(prefix)]:
            self._delete(found)

    def sweep(self, stale: Callable[[bytes, bytes], bool]) -> bool:
        """Look at the next 5,000 rows and remove those of which `stale(key, value)` holds.

        True when that was the last slice of all rows; the next call begins anew.
        """
        rows = list(self._rows(self._swept, _SLICE))
        self._delete([key for key, value in rows if stale(key[_KEY.size :], value)])
        self._swept = rows[-1][0] + b"\0" if len(rows) == _SLICE else b""
        return not self._swept

    def _rows(self, begin: bytes, limit: int) -> Iterator[tuple[bytes, bytes]]:
        rows = self._db.iter()
        rows.seek(begin)
        for _ in range(limit):
            if not rows.valid():
                return
            yield rows.key(), rows.value()
            rows.next()

    def _delete(self, keys: Iterable[bytes]) -> None:
        batch = WriteBatch(raw_mode=True)
        for key in keys:
            batch.delete(key)
        self._db.write(batch)

    def close(self) -> None:
        """Let go of the directory."""
        self._db.close()


def _open(directory: Path) -> Rdict:
    deadline = time.monotonic() + _LOCK
    fresh = False
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return Rdict(str(directory), _options())
        except OSError as error:
            raise DependencyDown(f"{directory} cannot be made: {error}") from error
        except Exception as error:  # rocksdict raises nothing narrower
            locked = "lock" in str(error).lower()
            if (locked and time.monotonic() > deadline) or (not locked and fresh):
                raise DependencyDown(f"the store in {directory} does not open: {error}") from error
            if locked:
                time.sleep(0.1)
            else:
                _log.warning("state.rebuilt", error=str(error))
                shutil.rmtree(directory, ignore_errors=True)
                fresh = True


def _write_options() -> WriteOptions:
    options = WriteOptions()
    options.memtable_insert_hint_per_batch = True  # what makes the sorted batch of `write` pay
    return options


def _options() -> Options:
    tables = BlockBasedOptions()
    tables.set_bloom_filter(10, block_based=False)  # nine ids in ten are new: most questions end here
    tables.set_block_cache(Cache(_CACHE))
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(tables)
    options.set_write_buffer_size(_MEMTABLE)
    # The filter of what is not in a table yet: half the time of a look for a new id.
    options.set_memtable_prefix_bloom_ratio(0.1)
    options.set_memtable_whole_key_filtering(True)
    options.set_allow_concurrent_memtable_write(False)  # there is one writer
    options.set_max_write_buffer_number(3)
    options.set_keep_log_file_num(2)
    return options
