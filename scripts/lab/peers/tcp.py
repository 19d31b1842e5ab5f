"""send ADDRESS PORT BYTES: so many zeros to whoever connects and says go.

receive BYTES ADDRESS:PORT...: from all of them at once, after a line on standard input.
"""

import selectors
import socket
import sys

BUFFER_BYTES = 1 << 20
QUIET_LIMIT_S = 60


def send(address, port, size):
    with socket.create_server((address, int(port))) as listener:
        print("ready", flush=True)
        connection, _ = listener.accept()
    zeros = memoryview(bytes(BUFFER_BYTES))
    left = int(size)
    with connection:
        connection.settimeout(QUIET_LIMIT_S)
        connection.recv(1)
        while left:
            left -= connection.send(zeros[: min(left, BUFFER_BYTES)])
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # until the other side has read it all and closes


def receive(size, *sources):
    left = int(size)
    buffer = bytearray(BUFFER_BYTES)
    ready = selectors.DefaultSelector()
    for source in sources:
        address, _, port = source.rpartition(":")
        ready.register(socket.create_connection((address, int(port)), QUIET_LIMIT_S), selectors.EVENT_READ)
    print("ready", flush=True)
    sys.stdin.readline()
    for key in ready.get_map().values():
        key.fileobj.send(b"!")
    while ready.get_map():
        events = ready.select(QUIET_LIMIT_S)
        if not events:
            sys.exit(f"nothing came for {QUIET_LIMIT_S} s")
        for key, _ in events:
            count = key.fileobj.recv_into(buffer)
            left -= count
            if count == 0:
                ready.unregister(key.fileobj)
                key.fileobj.close()
    if left:
        sys.exit(f"{left} bytes are missing")


{"send": send, "receive": receive}[sys.argv[1]](*sys.argv[2:])
