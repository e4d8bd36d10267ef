"""Many raters at once against `avatar study serve`, which is killed (-9) in the middle: is any acknowledged answer lost?

    python scripts/load_study_server.py                      200 raters, 60 clips each, one kill
    python scripts/load_study_server.py --raters 50 --kills 3

Each rater does what the page does: joins, sends one answer after another, and sends again what was not acknowledged. At the end the
database is compared with what the raters hold acknowledgements of. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avatar.study.formats import Study, Trial, dump_json
from avatar.study.server import collected_sessions

AT = "2026-11-23T09:00:00.000Z"
CONSENT = {"given": True, "adult": True, "at": AT}
SERVER = """
import sys
from avatar.study.server import Limits, serve
limits = Limits(requests_per_s=1e9, answers_per_s=1e9, joins_per_min=1e9)  # here all come from one address, without pauses
serve(sys.argv[1], sys.argv[2], port=int(sys.argv[3]), limits=limits)
"""


@dataclass
class Tally:
    """What all raters have seen so far."""

    acknowledged: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)
    again: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Server:
    """The server as a process of its own, on one port through all its lives."""

    def __init__(self, folder: Path, results: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._command = [sys.executable, "-c", SERVER, str(folder), str(results), str(self.port)]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the server did not start")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait()


def make_study(folder: Path, num_slots: int, num_trials: int) -> Study:
    """A study without pictures: the load is in the answers."""
    slots = tuple(
        tuple(Trial(f"t{slot:04x}{i:04x}", "media/00000000000000aa.mp4", None, 4.0) for i in range(num_trials))
        for slot in range(num_slots)
    )
    words = {"en": "Load"}
    study = Study("load", "1", words, words, "", "", "", ("en",), ("LS", "IP", "FBN", "FCN"), (), 20, (), slots)
    (folder / "media").mkdir(parents=True)
    (folder / "media" / "00000000000000aa.mp4").write_bytes(b"\0" * 1000)
    (folder / "study.json").write_text(dump_json(study.to_json()), encoding="utf-8")
    return study


def rate(server: Server, tally: Tally, seed: int) -> None:
    """One rater, from the consent to the end."""
    rng = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def ask(method: str, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        for attempt in range(200):
            began = time.monotonic()
            try:
                connection.request(method, path, json.dumps(body), headers)
                reply = connection.getresponse()
                content = reply.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                with tally.lock:
                    tally.again += 1
                time.sleep(min(2.0, 0.1 * 2**attempt) * rng.uniform(0.75, 1.25))
                continue
            if reply.status != 200:
                raise SystemExit(f"{method} {path}: {reply.status} {content!r}")
            with tally.lock:
                tally.latencies_s.append(time.monotonic() - began)
            answer: dict[str, Any] = json.loads(content)
            return answer
        raise SystemExit("the server stayed away")

    joined = ask("POST", "/api/join", {"study_version": "1", "language": "en", "consent": CONSENT})
    for trial in joined["trials"]:
        scores = {scale: rng.randint(1, 5) for scale in ("LS", "IP", "FBN", "FCN")}
        body = {"trial": trial["id"], "scores": scores, "replays": 0, "played_s": 4.0, "rt_s": 3.0, "at": AT}
        ask("PUT", f"/api/answers/{trial['id']}", body, joined["token"])
        with tally.lock:
            tally.acknowledged[joined["rater"], trial["id"]] = scores


def kill_on_the_way(server: Server, tally: Tally, total: int, kills: int, is_over: Callable[[], bool]) -> None:
    """Kills and starts the server again, evenly spread over the answers."""
    for kill in range(1, kills + 1):
        while len(tally.acknowledged) < total * kill / (kills + 1) and not is_over():
            time.sleep(0.01)
        server.kill()
        print(f"killed with {len(tally.acknowledged)} answers acknowledged", file=sys.stderr)
        server.start()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--slots", type=int, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, results = Path(scratch) / "study", Path(scratch) / "results.sqlite"
        study = make_study(folder, args.slots, args.clips)
        server, tally = Server(folder, results), Tally()
        began = time.monotonic()
        raters = [threading.Thread(target=rate, args=(server, tally, seed)) for seed in range(args.raters)]
        for rater in raters:
            rater.start()
        total = args.raters * args.clips
        kill_on_the_way(server, tally, total, args.kills, lambda: not any(rater.is_alive() for rater in raters))
        for rater in raters:
            rater.join()
        took_s = time.monotonic() - began
        server.stop()
        return report(tally, collected_sessions(results, study), total, took_s, args.slots)


def report(tally: Tally, sessions: list[Any], total: int, took_s: float, num_slots: int) -> int:
    """Prints the comparison; the exit code."""
    kept = {(session.rater, answer.trial): answer.scores for session in sessions for answer in session.answers}
    lost = [name for name, scores in tally.acknowledged.items() if kept.get(name) != scores]
    full = Counter(session.slot for session in sessions if session.answers)
    cpu_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    latencies_ms = sorted(1000 * latency for latency in tally.latencies_s)
    p50, p95, p99 = (latencies_ms[int(share * (len(latencies_ms) - 1))] for share in (0.5, 0.95, 0.99))
    print(f"answers acknowledged      {len(tally.acknowledged)} of {total}")
    print(f"lost or changed           {len(lost)}")
    print(f"kept without being sent   {len(set(kept) - set(tally.acknowledged))}")
    print(f"requests sent again       {tally.again}")
    print(f"raters per slot           {min(full.values())} to {max(full.values())} ({len(full)} of {num_slots} slots)")
    print(
        f"answers a second          {len(tally.acknowledged) / took_s:.0f} ({took_s:.1f} s, {os.cpu_count()} threads)"
    )
    print(f"server's processor time   {1000 * cpu_s / len(tally.latencies_s):.2f} ms a request (starts included)")
    print(f"wait for acknowledgement  {p50:.0f} ms median, {p95:.0f} ms 95 %, {p99:.0f} ms 99 %")
    return int(bool(lost) or len(tally.acknowledged) != total or len(kept) != total)


if __name__ == "__main__":
    sys.exit(main())
