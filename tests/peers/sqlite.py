"""Durable records per second of SQLite with a write-ahead log that is synced with every transaction.

Usage: sqlite.py FILE RECORDS_PER_TRANSACTION BYTES SECONDS. One JSON object on stdout: rate, p50 and p99 of a transaction in
ms, and bytes written to the disk per byte of payload.
"""

import json
import os
import sqlite3
import sys
import time


def written():
    """Bytes that this process has had written."""
    with open("/proc/self/io", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("write_bytes"))


def main():
    path, group, size, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("pragma journal_mode = wal")
    database.execute("pragma synchronous = full")
    database.execute("create table events (seq integer primary key, payload blob not null)")
    rows = [(os.urandom(size),)] * group
    before, begin, times, records = written(), time.perf_counter(), [], 0
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        database.execute("begin")
        database.executemany("insert into events (payload) values (?)", rows)
        database.execute("commit")
        times.append((time.perf_counter() - start) * 1e3)
        records += group
    rate = records / (time.perf_counter() - begin)
    times.sort()
    p99 = times[min(len(times) * 99 // 100, len(times) - 1)]
    result = {"rate": rate, "p50": times[len(times) // 2], "p99": p99, "written": (written() - before) / (records * size)}
    print(json.dumps(result))


main()
