"""Builds without what was built before, and shows what takes the time.

Usage: tests/cold_build.py FOLDER ARGUMENT... The folder is removed first; the arguments are those of `cargo build`.
Seconds of the processor are printed, because they hardly depend on what else the machine does.
"""

import json
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

# Crates that the table names.
LARGEST = 25


def units(folder):
    """What cargo measured: one entry per crate and build script."""
    report = folder / "cargo-timings" / "cargo-timing.html"
    found = re.search(r"const UNIT_DATA = (\[.*?\]);", report.read_text(), re.DOTALL)
    if not found:
        sys.exit(f"{report}: this version of cargo writes its timings in another form")
    return json.loads(found[1])


def repeated():
    """Crates that are built in more than one version."""
    command = ["cargo", "tree", "--workspace", "--duplicates", "--edges", "normal,build", "--depth", "0", "--prefix", "none"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    versions = {}
    for name, version in (line.split()[:2] for line in lines if line.strip()):
        versions.setdefault(name, set()).add(version)
    return {name: sorted(found) for name, found in versions.items() if len(found) > 1}


def main():
    """Builds, and prints the tables."""
    folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.monotonic()
    subprocess.run(["cargo", "build", "--timings", "--target-dir", folder, *arguments], check=True)
    seconds, used = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    built = units(folder)
    total = sum(unit["duration"] for unit in built)
    largest = sorted(built, key=lambda unit: -unit["duration"])[:LARGEST]
    print(f"\n{'crate':<44} share of the build")
    for unit in largest:
        name = " ".join([unit["name"], unit["version"], unit["target"].strip()]).strip()
        print(f"{name:<44} {100 * unit['duration'] / total:5.1f} %")
    print("\ncrates in several versions:")
    for name, versions in sorted(repeated().items()):
        print(f"  {name} {', '.join(versions)}")
    print(f"\n{len(built)} units, {used.ru_utime + used.ru_stime:.0f} seconds of the processor, {seconds:.0f} seconds in all")


if __name__ == "__main__":
    main()
