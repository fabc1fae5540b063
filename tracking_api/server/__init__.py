"""The server behind ``manage.py serve``: an event loop that reads and writes, and a few threads that do the work.

Any number of clients may be slow, idle or in the middle of a request: each costs a socket and some memory, but no
thread. A thread gets a request once it is whole. The loop gets the answer back, and sends it however long that takes.
"""
