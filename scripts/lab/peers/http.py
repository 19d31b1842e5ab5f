"""http.py ADDRESS PORT FILE: serves one file over HTTP/1.1, whole or in ranges, straight from the page cache."""

import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

source = os.open(sys.argv[3], os.O_RDONLY)
size = os.fstat(source).st_size


class Serve(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self):
        start, end = 0, size
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2] or size - 1) + 1, size)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(max(end - start, 0)))
        self.end_headers()
        self.wfile.flush()
        os.set_blocking(self.connection.fileno(), True)
        while start < end and (count := os.sendfile(self.connection.fileno(), source, start, end - start)):
            start += count

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a downloader that closes early is its own affair


server = Server((sys.argv[1], int(sys.argv[2])), Serve)
print("ready", flush=True)
server.serve_forever()
