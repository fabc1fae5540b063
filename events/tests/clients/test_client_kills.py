"""The Python client's process is killed again and again: what it has tracked into its spool is stored, each event once.

``HYPOTHESIS_PROFILE=thorough`` has 100,000 events and ten kills, else it is a tenth of that and three kills.
``python -m events.tests.clients.test_client_kills`` prints the table of it, on the database of ``TEST_DATABASE_URL``.
"""

import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from tracking_client import Tracker

from events.tests.clients.conftest import VARIABLES, credentials
from events.tests.clients.environment import client_environment, client_url
from events.tests.support import service
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.network import network
from events.tests.support.waiting import wait_until

EVENTS, KILLS = (100_000, 10) if IS_THOROUGH else (10_000, 3)
NAMESPACE = "kills"

# Says in memory that outlives it which event it is about to track, which it has tracked, and how many that makes. An event
# whose call was killed counts for nothing: it may be stored or not, and is not tracked again. Each is written by one copy, as
# struct.pack_into makes the place zero first, and the process may be killed then.
PRODUCER = """
import mmap, struct, sys, time
from tracking_client import Tracker
spool, progress, events = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(progress, "r+b") as file:
    memory = mmap.mmap(file.fileno(), 24)
number, _, tracked = struct.unpack("qqq", memory)
tracker = Tracker(spool=spool)
while tracked < events:
    memory[:8] = struct.pack("q", number + 1)
    tracker.track("kills", "value", number)
    number, tracked = number + 1, tracked + 1
    memory[8:] = struct.pack("qq", number, tracked)
    if number % 100 == 0:
        time.sleep(0.001)
tracker.close(60)
"""


def kill_again_and_again(env, way, directory, events=EVENTS, kills=KILLS):
    """Tracks so many events, and kills the process so often meanwhile, also while it doesn't know what became of a batch.

    Gives the numbers of those that ``track`` returned from, and of those that it was killed over.
    """
    progress = directory / "progress"
    progress.write_bytes(bytes(24))
    with progress.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 24)
    command = [sys.executable, "-c", PRODUCER, str(directory / "spool"), str(progress), str(events)]
    environment = client_environment(env, TRACKING_URL=way.url)
    killed_over = set()
    for turn in range(1, kills + 2):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        if turn > kills:
            assert process.wait(600) == 0
            break
        # soon after the first batches of this turn are under way
        wanted = events * turn // (kills + 1) + random.randrange(events // (kills + 1) // 2)
        wait_until(lambda wanted=wanted: struct.unpack("qqq", memory)[2] >= wanted, 600)
        if turn % 2:
            lost, way.answers_to_lose = way.lost, 2
            wait_until(lambda lost=lost: way.lost > lost, 600)
        time.sleep(random.random() / 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        begun, done, _ = struct.unpack("qqq", memory)
        killed_over |= {done} if begun > done else set()
        way.answers_to_lose = 0
    begun, _, tracked = struct.unpack("qqq", memory)
    assert tracked == events
    with Tracker(client_url(env), *credentials(env), spool=directory / "spool") as tracker:
        wait_until(lambda: tracker.waiting == 0, 600)
    return set(range(begun)) - killed_over, killed_over


def table_of(env, sent, killed_over):
    rows = service.query(env, f"SELECT value FROM events_event WHERE namespace = '{NAMESPACE}'")
    found = Counter(int(value) for (value,) in rows)
    return {
        "sent": len(sent),
        "stored once": sum(found[number] == 1 for number in sent),
        "lost": sum(not found[number] for number in sent),
        "twice": sum(times > 1 for times in found.values()),
        "killed over": len(killed_over),
        "of them stored": sum(found[number] for number in killed_over),
    }


def test_a_process_that_is_killed_loses_nothing_and_stores_nothing_twice(env, way, tmp_path):
    table = table_of(env, *kill_again_and_again(env, way, tmp_path))

    assert table == {**table, "sent": EVENTS, "stored once": EVENTS, "lost": 0, "twice": 0}


def main():
    with tempfile.TemporaryDirectory(prefix="kills-") as name, service.own_database(Path(name)) as url:
        directory = Path(name)
        env = service.environment(directory, DATABASE_URL=url, PORT=service.free_port(), **VARIABLES)
        for command in ("migrate", "prepare_first_visit"):
            done = service.manage(command, env=env)
            assert done.returncode == 0, done.stderr
        with service.served(env), network(int(env["PORT"])) as way:
            events, kills = int(os.environ.get("EVENTS", 100_000)), int(os.environ.get("KILLS", 10))
            start = time.monotonic()
            numbers = kill_again_and_again(env, way, directory, events, kills)
            seconds = time.monotonic() - start
            table = {
                "database": urlsplit(url).scheme,
                "kills": kills,
                "answers lost": way.lost,
                **table_of(env, *numbers),
            }
        print("| " + " | ".join(table) + " | seconds |")  # noqa: T201
        print("|" + "---|" * (len(table) + 1))  # noqa: T201
        print("| " + " | ".join(map(str, table.values())) + f" | {seconds:.0f} |")  # noqa: T201


if __name__ == "__main__":
    main()
