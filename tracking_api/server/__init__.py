"""The server behind ``manage.py serve``: an event loop that reads and writes, and a few threads that work.

Any number of clients may be slow, idle or half done: each costs a socket and some memory, and no thread. A request goes
to a thread once it is whole; its answer goes back to the loop, which sends it however long that takes.
"""
