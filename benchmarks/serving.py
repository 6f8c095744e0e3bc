r"""Measures `deeplab serve` at full load: errors, memory, and latency beside the bare model, in one run.

    python benchmarks/serving.py --model=runs/mine/export/frozen_inference_graph.pb --image=photo.jpg --minutes=30

Starts the server, keeps it busy from several clients, and prints requests per second, latencies (median and 99th
percentile), errors, and the server's memory at ten times of the load. Before that it predicts the same image with the
model itself, one at a time. The exit code is 1 after an error, or if memory grew by more than a tenth after the first
tenth of the load.
"""

import argparse
import collections
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    data = pathlib.Path(given.image).read_bytes()
    print(row("bare model", bare(given.model, data)))
    words = [
        sys.executable,
        "-m",
        "deeplab",
        "serve",
        f"--model={given.model}",
        "--port=0",
        f"--workers={given.workers}",
    ]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://[^;\s]+", process.stdout.readline())[0]
        load(address, data, 5, 1)  # warm
        print(row("server, 1 client", load(address, data, 10, 1)[0]))
        seconds: list[float] = []
        statuses: collections.Counter = collections.Counter()
        used = []
        started = time.monotonic()
        for tenth in range(1, 11):
            more, answered = load(address, data, given.minutes * 6, given.clients)
            seconds += more
            statuses += answered
            used.append(memory(process.pid))
            print(f"{10 * tenth:3d} %: {len(seconds)} requests, memory of the server {used[-1]:.0f} MB", flush=True)
        print(row(f"server, {given.clients} clients", seconds))
        print(f"{len(seconds) / (time.monotonic() - started):.1f} requests/s; statuses {dict(statuses)}")
    finally:
        process.terminate()
        process.wait(120)
    return int(set(statuses) != {200} or used[-1] > 1.1 * used[0])


def bare(model: str, data: bytes) -> list[float]:
    """Seconds of single predictions without a server, decoding included."""
    from deeplab import Segmenter

    segmenter, seconds = Segmenter(model), []
    for number in range(25):
        started = time.monotonic()
        segmenter(data, probabilities=False)
        if number >= 5:
            seconds.append(time.monotonic() - started)
    return seconds


def load(address: str, data: bytes, duration: float, clients: int) -> tuple[list[float], collections.Counter]:
    """Seconds and statuses of all requests of several clients, each of which sends one after the other."""
    end = time.monotonic() + duration

    def one(_: int) -> list[tuple[float, int]]:
        found = []
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                with urllib.request.urlopen(urllib.request.Request(f"{address}/segment", data), timeout=120) as answer:
                    answer.read()
                    status = answer.status
            except urllib.error.HTTPError as error:
                status = error.code
            except OSError:
                status = 0
            found.append((time.monotonic() - started, status))
        return found

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        every = [each for found in pool.map(one, range(clients)) for each in found]
    return [seconds for seconds, _ in every], collections.Counter(status for _, status in every)


def memory(pid: int) -> float:
    """MB of a process and its children."""
    pids = [str(pid), *subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()]
    texts = [pathlib.Path("/proc", one, "status").read_text() for one in pids if pathlib.Path("/proc", one).exists()]
    return sum(int(match[1]) for text in texts if (match := re.search(r"VmRSS:\s+(\d+)", text))) / 1000


def row(what: str, seconds: list[float]) -> str:
    milliseconds = 1000 * np.array(seconds)
    low, high = np.percentile(milliseconds, [50, 99])
    return f"{what:<22} {len(seconds):>7} predictions   median {low:7.1f} ms   99 % {high:7.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
