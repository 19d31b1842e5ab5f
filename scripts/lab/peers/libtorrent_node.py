"""A libtorrent peer: seed TORRENT FOLDER ADDRESS:PORT, or take TORRENT FOLDER ADDRESS:PORT MARK, which waits for a
line on standard input, and makes the file MARK when it has all. Both serve until they are ended. fetch TORRENT FOLDER
ADDRESS:PORT PEER:PORT takes from this one peer, and ends."""

import os
import sys
from pathlib import Path

import libtorrent as lt

role, torrent, folder, listen = sys.argv[1:5]
session = lt.session(
    {
        "listen_interfaces": listen,
        "alert_mask": lt.alert.category_t.status_notification | lt.alert.category_t.storage_notification,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "allow_multiple_connections_per_ip": True,
    }
)
wanted = lt.add_torrent_params()
wanted.ti = lt.torrent_info(torrent)
wanted.save_path = folder
wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
print("ready", flush=True)
if role == "seed":
    wanted.flags |= lt.torrent_flags.seed_mode
elif role == "take":
    sys.stdin.readline()
torrent = session.add_torrent(wanted)
if role == "fetch":
    peer, _, port = sys.argv[5].rpartition(":")
    torrent.connect_peer((peer, int(port)))
while True:
    session.wait_for_alert(1000)
    for alert in session.pop_alerts():
        if role == "take" and isinstance(alert, lt.torrent_finished_alert):
            Path(sys.argv[5]).touch()
        if role == "fetch" and isinstance(alert, lt.torrent_finished_alert):
            torrent.flush_cache()
        if role == "fetch" and isinstance(alert, lt.cache_flushed_alert):
            os._exit(0)
