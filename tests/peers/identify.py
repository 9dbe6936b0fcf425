"""Time per probe of other searches on the vectors of `gatehouse-bench identify`, one thread, k = 1.

Usage: identify.py FOLDER DIMENSIONS [PEER...]; FOLDER has templates.f32 and probes.f32 (rows of little-endian f32)
and nearest.u32 (the row of the nearest template of every probe). Every exact search, and the graphs of the peers that
are named: faiss, hnswlib, usearch. One JSON object per measurement on stdout.
"""

import json
import os
import pathlib
import sys
import time

import numpy

# Probes per call: the cost of the call itself is shared out, and faiss does not go over to matrix products yet.
PER_CALL = 10
RECALL_WANTED = 0.999
# As in identify.rs.
PASSES = 3
LONG = 5000.0
EFS = [16, 32, 64, 128, 256, 512, 1024, 2048]
CONNECTIONS = 24
CONSTRUCTION_WIDTH = 200
# Threads that build a graph; one of a million takes minutes with them. Searches have one.
BUILDERS = os.cpu_count() or 1


def measure(name, search, probes, nearest, build):
    """The best of some passes, as for our own engines."""
    best = None
    search(probes[:PER_CALL])
    for _ in range(PASSES):
        times, found = [], []
        for start in range(0, len(probes), PER_CALL):
            some = probes[start : start + PER_CALL]
            begin = time.perf_counter()
            rows = search(some)
            times.append((time.perf_counter() - begin) / len(some) * 1e6)
            found.append(numpy.asarray(rows).reshape(-1))
        recall = float((numpy.concatenate(found) == nearest).mean())
        times.sort()
        p99 = times[min(len(times) * 99 // 100, len(times) - 1)]
        result = {"engine": name, "p50": times[len(times) // 2], "p99": p99, "recall": recall, "build": build}
        best = min(best or result, result, key=lambda result: result["p50"])
        if best["p50"] > LONG:
            break
    return best


def graph(name, width, search, probes, nearest, build):
    """The narrowest search that finds enough."""
    for ef in EFS:
        width(ef)
        result = measure(f"{name}, ef {ef}", search, probes, nearest, build)
        if result["recall"] >= RECALL_WANTED:
            break
    return result


def peers(templates, probes, nearest, graphs):
    count, dimensions = templates.shape
    common = (probes, nearest)
    try:
        import faiss

        faiss.omp_set_num_threads(1)
        flat = faiss.IndexFlatL2(dimensions)
        flat.add(templates)
        yield measure("faiss flat", lambda q: flat.search(q, 1)[1], *common, None)
        if "faiss" in graphs:
            begin = time.perf_counter()
            index = faiss.IndexHNSWFlat(dimensions, CONNECTIONS)
            index.hnsw.efConstruction = CONSTRUCTION_WIDTH
            faiss.omp_set_num_threads(BUILDERS)
            index.add(templates)
            build = time.perf_counter() - begin
            faiss.omp_set_num_threads(1)

            def width(ef):
                index.hnsw.efSearch = ef

            yield graph("faiss HNSW", width, lambda q: index.search(q, 1)[1], *common, build)
    except ImportError:
        pass
    try:
        import hnswlib

        brute = hnswlib.BFIndex(space="l2", dim=dimensions)
        brute.init_index(max_elements=count)
        brute.add_items(templates)
        brute.set_num_threads(1)
        yield measure("hnswlib brute force", lambda q: brute.knn_query(q, k=1)[0], *common, None)
        if "hnswlib" in graphs:
            begin = time.perf_counter()
            small = hnswlib.Index(space="l2", dim=dimensions)
            small.init_index(max_elements=count, M=CONNECTIONS, ef_construction=CONSTRUCTION_WIDTH)
            small.add_items(templates, num_threads=BUILDERS)
            build = time.perf_counter() - begin
            small.set_num_threads(1)
            yield graph("hnswlib", small.set_ef, lambda q: small.knn_query(q, k=1)[0], *common, build)
    except ImportError:
        pass
    try:
        from usearch.index import Index, MetricKind, search

        def exact(q):
            return search(templates, q, 1, MetricKind.L2sq, exact=True, threads=1).keys

        yield measure("usearch exact", exact, *common, None)
        if "usearch" in graphs:
            begin = time.perf_counter()
            large = Index(
                ndim=dimensions,
                metric="l2sq",
                dtype="f32",
                connectivity=CONNECTIONS,
                expansion_add=CONSTRUCTION_WIDTH,
            )
            large.add(numpy.arange(count), templates, threads=BUILDERS)
            build = time.perf_counter() - begin

            def expand(ef):
                large.expansion_search = ef

            yield graph("usearch", expand, lambda q: large.search(q, 1, threads=1).keys, *common, build)
    except ImportError:
        pass


def main():
    folder, dimensions = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    templates = numpy.fromfile(folder / "templates.f32", dtype="<f4").reshape(-1, dimensions)
    probes = numpy.fromfile(folder / "probes.f32", dtype="<f4").reshape(-1, dimensions)
    nearest = numpy.fromfile(folder / "nearest.u32", dtype="<u4")
    for result in peers(templates, probes, nearest, sys.argv[3:]):
        print(json.dumps(result), flush=True)


main()
