"""nginx sends from the page cache (sendfile), curl writes: HTTP/1.1 that is neither encrypted nor verified."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from net import free_port
from proc import Process, wait_until
from programs.base import EndingSession, Program, Session, Stage

START_LIMIT_S = 20
CONFIGURATION = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen {address}:{port}; root {root}; }}
}}
"""


def find_nginx() -> str | None:
    # Where administrators' programs are is not on everybody's path.
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


class Nginx(Program):
    name = "nginx + curl"

    def why_not(self) -> str | None:
        return None if find_nginx() and shutil.which("curl") else "no nginx or no curl here"

    def version(self) -> str:
        nginx = subprocess.run([find_nginx(), "-v"], capture_output=True, text=True, timeout=20).stderr.strip()
        curl = subprocess.run(["curl", "--version"], capture_output=True, text=True, timeout=20).stdout
        return f"{nginx.rpartition('/')[2]}, curl {curl.split()[1]}"

    def session(self, stage: Stage) -> Session:
        return NginxSession(stage)


class NginxSession(EndingSession):
    def prepare(self):
        [host] = self.stage.providers
        port = free_port(host.address)
        folder = self.stage.folder
        settings = folder / "nginx.conf"
        values = {"folder": folder, "address": host.address, "port": port, "root": self.stage.source.parent}
        settings.write_text(CONFIGURATION.format(**values))
        argv = [find_nginx(), "-c", settings, "-p", folder]
        provider = Process(host.command(*argv), folder / "provider-0")
        self.providers.append(provider)

        def is_there():
            provider.expect_running()
            with socket.socket() as probe:
                return probe.connect_ex((host.address, port)) == 0

        wait_until(is_there, "nginx listens", START_LIMIT_S)
        self.url = f"http://{host.address}:{port}/{self.stage.source.name}"
        if self.stage.source.is_dir():
            self.listed = self._list(self.output(0))

    def take(self, taker) -> list:
        if not self.stage.source.is_dir():
            return ["curl", "--silent", "--fail", "--output", self.output(taker), self.url]
        return ["curl", "--silent", "--fail", "--create-dirs", "--config", self.listed]

    def _list(self, target: Path) -> Path:
        """One curl for all files, over one connection."""
        lines = []
        for path in sorted(self.stage.source.iterdir()):
            lines.append(f'url = "{self.url}/{path.name}"\noutput = "{target / path.name}"\n')
        listed = self.stage.folder / "urls"
        listed.write_text("".join(lines))
        return listed
