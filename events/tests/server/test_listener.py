"""How a process leaves connections to others that have fewer."""

import asyncio
import socket
from contextlib import ExitStack

from tracking_api.server import listener
from tracking_api.server.connection_counts import shared_counts


def test_what_a_busy_process_does_not_take_is_left_to_one_that_is_not_busy(monkeypatch):
    monkeypatch.setattr(listener, "_BUSY_SECONDS", 60)
    one, busy, other = shared_counts(3)
    busy.set(0)
    other.set(5)
    taken = [None] * 5

    def new_connection():
        taken.append(asyncio.Protocol())
        return taken[-1]

    async def eventually_taken(count):
        async with asyncio.timeout(60):
            while len(taken) < count:
                await asyncio.sleep(0.001)

    async def take_connections():
        with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as opened:
            listening.setblocking(False)
            address = listening.getsockname()
            taker = listener.Listener(listening, one, taken, new_connection)
            taker.start()

            opened.enter_context(socket.create_connection(address))
            await eventually_taken(6)  # after some looks, as the busy one has fewer

            monkeypatch.setattr(listener, "_LOOKS", 1_000_000)
            opened.enter_context(socket.create_connection(address))
            await asyncio.sleep(0.05)
            assert len(taken) == 6
            other.set(6)
            await eventually_taken(7)
            taker.stop()

    asyncio.run(take_connections())
