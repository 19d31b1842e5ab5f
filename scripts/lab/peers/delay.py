"""delay.py TARGET_PORT DELAY_S: passes on TCP connections of this machine, each byte so many seconds later, both ways.

Prints the port that it listens on. The connection itself is made at once: that round trip is for the caller to add."""

import asyncio
import sys

BUFFER_BYTES = 64 * 1024
# So much may be on its way in one direction; a sender waits for the rest.
MOST_ON_THE_WAY = 256

target, delay_s = int(sys.argv[1]), float(sys.argv[2])


async def take(reader, queue):
    clock = asyncio.get_running_loop()
    while data := await reader.read(BUFFER_BYTES):
        await queue.put((clock.time() + delay_s, data))
    await queue.put((clock.time() + delay_s, b""))


async def give(queue, writer):
    clock = asyncio.get_running_loop()
    while True:
        due, data = await queue.get()
        await asyncio.sleep(max(0.0, due - clock.time()))
        if not data:
            writer.close()
            return
        writer.write(data)
        await writer.drain()


async def pass_on(near_reader, near_writer):
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
    there, back = asyncio.Queue(MOST_ON_THE_WAY), asyncio.Queue(MOST_ON_THE_WAY)
    ways = (take(near_reader, there), give(there, far_writer), take(far_reader, back), give(back, near_writer))
    # An end that closes early is its own affair.
    await asyncio.gather(*ways, return_exceptions=True)


async def main():
    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
