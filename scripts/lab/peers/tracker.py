"""tracker.py ADDRESS PORT: a BitTorrent tracker over HTTP for a few peers of one swarm; prints one line an announce."""

import socket
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

# Peers may ask often: a swarm that starts all at once should find itself soon.
INTERVAL_S = 2
MOST_PEERS = 1000
peers = set()


class Announce(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query, encoding="latin-1")
        peer = (self.client_address[0], int(query["port"][0]))
        event = query.get("event", ["-"])[0]
        if event == "stopped":
            peers.discard(peer)
        elif len(peers) < MOST_PEERS:
            peers.add(peer)
        others = b"".join(socket.inet_aton(ip) + struct.pack(">H", port) for ip, port in peers if (ip, port) != peer)
        body = b"d8:intervali%de12:min intervali%de5:peers%d:%se" % (INTERVAL_S, INTERVAL_S, len(others), others)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print(f"{peer[0]}:{peer[1]} {event}", flush=True)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Announce)
print("ready", flush=True)
server.serve_forever()
