"""Builds all tests and runs several test binaries at the same time: most tests wait for other programs.

Usage: tests/run.py [--all]. Without --all the scenario of two minutes is left out. Cargo runs one binary after another;
apart from that this does what `cargo test --workspace` does. There are no documentation tests.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

# Left out without --all.
LONG = {"scenario"}
# Started first, in this order: the longest ones, so that none of them runs alone at the end.
FIRST = ["scenario", "rows", "outside", "daemon", "gatehouse_gallery"]
# Longer than any binary takes, also on a slow machine.
TIMEOUT_S = 1800


def build():
    """The test binaries: target name, executable, folder of the package."""
    command = ["cargo", "test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if output.returncode:
        sys.exit(output.returncode)
    binaries = {}
    for line in output.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            folder = os.path.dirname(message["manifest_path"])
            binaries[message["executable"]] = (message["target"]["name"], message["executable"], folder)
    return list(binaries.values())


def run(binary):
    """Runs one: its name, whether it passed, its output, its seconds."""
    name, executable, folder = binary
    begin = time.monotonic()
    try:
        done = subprocess.run(
            [executable],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
        passed, output = done.returncode == 0, done.stdout
    except subprocess.TimeoutExpired as error:
        passed, output = False, (error.stdout or b"") + f"\nended after {TIMEOUT_S} s\n".encode()
    return name, passed, output.decode(errors="replace"), time.monotonic() - begin


def summary(output):
    """What libtest counted."""
    lines = [line for line in output.splitlines() if line.startswith("test result:")]
    return lines[-1].removeprefix("test result: ") if lines else "no result"


def main():
    binaries = build()
    if "--all" not in sys.argv[1:]:
        binaries = [binary for binary in binaries if binary[0] not in LONG]
    order = {name: place for place, name in enumerate(FIRST)}
    binaries.sort(key=lambda binary: order.get(binary[0], len(order)))
    failed = []
    with ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1) as pool:
        for done in as_completed([pool.submit(run, binary) for binary in binaries]):
            name, passed, output, seconds = done.result()
            if not passed:
                failed.append(name)
                print(output)
            print(f"{name:22} {seconds:6.1f} s  {summary(output)}", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
