#!/usr/bin/env python3
"""Uses the node's page as a person would, and looks at what it shows. See scripts/check-web.sh."""

import argparse
import json
import os
import pathlib
import random
import re
import tempfile
import traceback

from browser import LIMIT_S, Browser, wait_until
from nodes import Node, address_of

MIB = 1 << 20
SIZE = 24 * MIB
# A name that would do harm as markup; longer than a line.
EVIL_NAME = '<img src=x onerror="window.hacked=1"><script>window.hacked=1<' + "a long name that goes on and on " * 4 + ".bin"
EVIL_PAGE = b"<!doctype html><title>stored</title><p id=words>text</p><script>document.title='ran';window.hacked=1</script>\n"
MANY_FILES = 10_000


class Check:
    """Nodes, a browser, and what is done with them; each step goes on from the one before."""

    def __init__(self, binary, folder, screenshots):
        self.binary, self.folder, self.screenshots = binary, pathlib.Path(folder), screenshots
        self.nodes = []
        self.browser = None

    def start(self):
        for number in range(5):
            options = ["--max-store", "1GiB"] if number == 1 else []
            self.nodes.append(Node(self.binary, self.folder / f"n{number}", self.nodes[:1], options))
        self.provider, self.getter, self.other, _, self.empty = self.nodes
        self.browser = Browser(self.folder)
        self.browser.look(1280, "light")
        self.file = self.folder / EVIL_NAME
        self.file.write_bytes(random.Random(7).randbytes(SIZE))
        self.address = address_of(self.binary, str(self.file), self.folder)

    def stop(self):
        for part in [*([self.browser.close] if self.browser else []), *[node.stop for node in self.nodes]]:
            try:
                part()
            except Exception:
                traceback.print_exc()

    def shoot(self, name):
        self.browser.screenshots(self.screenshots, name)

    def show(self, node):
        """The page of a node, as `casnode web` leads to it."""
        self.browser.open("about:blank")
        self.browser.open(node.casnode("web").strip())
        wait_until("the page", lambda: self.browser.is_shown("#views"))

    def no_complaint(self):
        """Neither an error nor a violation of the policy."""
        # That the map's pixels are read is of the test alone.
        complaints = [line for line in self.browser.log() if "getImageData" not in line]
        assert complaints == [], complaints
        assert not self.browser.run("return 'hacked' in window"), "a name was run"

    def job(self):
        """What the latest piece of work says, and its state."""
        return self.browser.run("const row = document.querySelector('#jobs li'); return row && [row.dataset.state, row.innerText]")

    def ended(self, what):
        state, words = wait_until(what, lambda: (job := self.job()) and job[0] != "runs" and job)
        assert state == "done", f"{what}: {words}"
        return words

    def the_token_is_asked_for(self):
        browser = self.browser
        browser.open(self.provider.http)
        wait_until("the form", lambda: browser.is_shown("#token-form"))
        assert not browser.is_shown("#views")
        browser.log()  # nothing was asked before there is a token
        browser.type("#token", "0" * 64)
        browser.type("#token", "Enter")
        wait_until("the refusal", lambda: "not the token of this node" in browser.text("#token-error"))
        assert not browser.is_shown("#views")
        self.shoot("token")
        browser.type("#token", self.provider.token)
        browser.type("#token", "Enter")
        wait_until("the page", lambda: browser.is_shown("#views"))
        # The refusal itself is what the console may speak of, and nothing else.
        assert all("401" in line for line in browser.log())

    def a_link_brings_the_token_and_hides_it(self):
        line = json.loads(self.provider.casnode("web", "--json"))
        assert line == {"url": f"{self.provider.http}/#token={self.provider.token}", "opened": False}, line
        self.show(self.provider)
        assert self.provider.token not in self.browser.url()
        self.no_complaint()

    def nothing_is_there_yet(self):
        browser = self.browser
        self.show(self.empty)
        wait_until("the empty list", lambda: browser.is_shown("#no-files"))
        self.shoot("empty-files")
        browser.click("#tab-files")
        browser.type("#tab-files", "ArrowRight")
        wait_until("the empty swarm", lambda: browser.is_shown("#no-swarm"))
        self.shoot("empty-swarm")
        browser.type("#tab-swarm", "ArrowLeft")
        browser.type("#address", "not an address")
        browser.type("#address", "Enter")
        wait_until("what is wrong", lambda: "64 hex digits" in browser.text("#get-error"))
        # What nobody has is looked for until it is told not to.
        browser.run("document.getElementById('address').value = ''")
        browser.type("#address", "0" * 64)
        browser.type("#address", "Enter")
        wait_until("the search", lambda: self.job())
        self.shoot("searching")
        if self.job()[0] == "runs":
            browser.click("#jobs .acts button:last-child")
        state, words = wait_until("its end", lambda: (job := self.job())[0] != "runs" and job)
        assert state in ("cancelled", "failed") and len(words) > 40, words
        browser.log()  # a call that was cancelled may be told there

    def a_file_is_stored(self):
        browser = self.browser
        self.show(self.provider)
        browser.type("#upload", str(self.file))
        words = self.ended("the upload")
        assert self.address in words, words
        name = wait_until("the row", lambda: browser.text(f"[data-address='{self.address}'] .name a"))
        assert name == EVIL_NAME, name
        assert browser.count("#views img") == 0 and browser.count("#views script") == 0
        assert json.loads(self.provider.casnode("stat", self.address, "--json"))["bytes"] == SIZE
        self.shoot("stored")
        self.no_complaint()

    def it_is_fetched_by_another_node(self):
        browser = self.browser
        self.limit("1MiB/s")
        # Another one fetches it, too, and gives what it has.
        other = self.other.start("get", self.address, "--store-only")
        wait_until("another one's chunks", lambda: self.chunks_of_other() > 20)
        self.show(self.getter)
        browser.type("#address", f"casnode:{self.address}?n=fetched.bin")
        browser.type("#address", "Enter")
        seen = wait_until("progress", lambda: self.part_of_bar())
        assert 0 < seen < 1, seen
        wait_until("how fast it goes", lambda: re.search(r"iB of .*/s", self.job()[1]))
        self.shoot("fetching")
        browser.click("#jobs .acts button:first-child")
        self.the_map_fills()
        browser.click("#tab-files")
        words = self.ended("the download")
        assert re.search(r"Got 24.0 MiB from \d peers?", words), words
        assert other.wait(LIMIT_S) == 0
        wait_until("the row", lambda: browser.text(f"[data-address='{self.address}'] .name a") == "fetched.bin")
        self.shoot("fetched")
        self.no_complaint()

    def limit(self, rate):
        for node in (self.provider, self.other):
            node.casnode("limits", "--up", rate, "--local", "on")

    def chunks_of_other(self):
        files = json.loads("[" + ",".join(self.other.casnode("ls", "--json").splitlines()) + "]")
        return json.loads(self.other.casnode("stat", self.address, "--json"))["chunks_here"] if files else 0

    def part_of_bar(self):
        return self.browser.run("const bar = document.querySelector('#jobs progress'); return bar && bar.hasAttribute('value') ? bar.value : null")

    def map(self):
        """Chunks here as the page says, chunks in all, and squares that are filled as they are drawn."""
        return self.browser.run("""
            const canvas = document.getElementById("chunk-map");
            const { cell, columns, cells, here, chunks } = canvas.dataset;
            if (canvas.hidden || !cells) return null;
            const scale = canvas.width / canvas.clientWidth;
            const pen = canvas.getContext("2d");
            let full = 0;
            for (let index = 0; index < cells; index += 1) {
              const x = ((index % columns) + 0.5) * cell * scale, y = (Math.floor(index / columns) + 0.5) * cell * scale;
              if (pen.getImageData(x, y, 1, 1).data[3] === 255) full += 1;
            }
            return { here: Number(here), chunks: Number(chunks), full };
        """)

    def the_map_fills(self):
        browser = self.browser
        first = wait_until("some of the map", lambda: (map := self.map()) and 0 < map["here"] < map["chunks"] and map)
        assert 0 < first["full"] < first["chunks"], first
        wait_until("the peer", lambda: browser.count(f"#swarm-peers [data-peer='{self.provider.peer}']") == 1)
        wait_until("its rate", lambda: "iB/s" in browser.text(f"#swarm-peers [data-peer='{self.provider.peer}']"))
        wait_until("a fuller map", lambda: self.map()["here"] > first["here"])
        self.shoot("swarm")
        self.limit("none")
        last = wait_until("the whole map", lambda: (map := self.map())["here"] == map["chunks"] and map)
        assert last["full"] == last["chunks"], last
        assert "100 %" in browser.text("#swarm-tiles")
        self.shoot("swarm-whole")

    def the_node_is_seen(self):
        browser = self.browser
        browser.click("#tab-node")
        wait_until("the ring", lambda: browser.count("#ring-dots .self") == 1 and browser.count("#ring-dots .peer") > 0)
        peers = self.getter.casnode("peers", "--json").splitlines()
        keys = {json.loads(line)["peer"] for line in peers}
        shown = wait_until("all peers", lambda: set(self.dots()) == keys and self.dots())
        assert self.provider.peer in shown
        assert browser.count("#peers tbody tr") == len(keys)
        assert "of 1.00 GiB" in browser.text("#store-facts") and browser.is_shown("#quota")
        assert re.search(r"\d+ of \d+ keys", browser.text("#announce-facts")), browser.text("#announce-facts")
        assert self.getter.peer in browser.text("#node-facts")
        self.shoot("node")
        self.no_complaint()

    def dots(self):
        return self.browser.run("return [...document.querySelectorAll('#ring-dots .peer')].map((dot) => dot.dataset.peer)")

    def a_stored_page_does_not_run(self):
        browser = self.browser
        page = self.folder / "page.html"
        page.write_bytes(EVIL_PAGE)
        address = self.provider.casnode("store", str(page)).strip()
        self.show(self.provider)
        own, before = browser.window(), set(browser.windows())
        wait_until("the row", lambda: browser.count(f"[data-address='{address}'] .name a") == 1)
        browser.click(f"[data-address='{address}'] .name a")
        (opened,) = wait_until("a tab", lambda: set(browser.windows()) - before)
        browser.switch(opened)
        wait_until("the stored page", lambda: browser.title() in ("stored", "ran"))
        assert browser.title() == "stored", "its script ran"
        assert any("sandbox" in line or "Content Security Policy" in line for line in browser.log())
        browser.close_window()
        browser.switch(own)

    def script_that_comes_in_does_not_run(self):
        """Whatever a mistake of the page's would let in, the policy does not run."""
        added = self.browser.run("""
            try {
              const script = document.createElement("script");
              script.text = "window.hacked = 1";
              document.body.append(script);
            } catch (error) { return error.name; }
            return "added";
        """)
        assert added in ("TypeError", "added"), added
        assert not self.browser.run("return 'hacked' in window")
        self.browser.log()

    def many_files_do_not_freeze_it(self):
        browser = self.browser
        folder = self.folder / "folder"
        folder.mkdir()
        (folder / "a.txt").write_text("a")
        self.provider.casnode("store", str(folder))
        wait_until("the directory", lambda: "1 file" in browser.text("#files tbody"))
        took = browser.run(f"""
            const begun = performance.now();
            listing.files = Array.from({{ length: {MANY_FILES} }}, (_, place) => ({{
              address: place.toString(16).padStart(64, "0"), name: `file ${{place}} of many.txt`, bytes: place, chunks: 1, state: "complete",
              pinned: place % 3 === 0, stored_unix_ms: Date.now() - place * 1e6, last_used_unix_ms: 0, in_place: null, source_state: null, directory: null,
            }}));
            drawFiles();
            document.body.offsetHeight;
            return performance.now() - begun;
        """)
        print(f"{MANY_FILES} files were drawn in {took:.0f} ms")
        assert browser.count("#files tbody tr") == 500
        assert "9,500 more" in browser.text("#more-words")
        self.shoot("many")
        browser.click("#more-files")
        assert browser.count("#files tbody tr") == 1000
        browser.type("#filter", "file 9999")
        assert browser.count("#files tbody tr") == 1

    def a_page_that_is_not_seen_asks_nothing(self):
        asked = "return performance.getEntriesByType('resource').length"
        browser = self.browser
        before = browser.run(asked)
        wait_until("a question", lambda: browser.run(asked) > before)
        browser.run("Object.defineProperty(document, 'hidden', { get: () => true, configurable: true })")
        # What was on its way is answered before this is.
        settle = "return Promise.all([call('status'), new Promise((done) => setTimeout(done, 1500))]).then(() => performance.getEntriesByType('resource').length)"
        before = browser.run(settle)
        rest = "return new Promise((done) => setTimeout(() => done(performance.getEntriesByType('resource').length), 5000))"
        assert browser.run(rest) == before

    def a_daemon_that_is_gone_is_told(self):
        browser = self.browser
        self.show(self.empty)
        self.empty.process.kill()
        wait_until("the notice", lambda: browser.is_shown("#notice"))
        assert "does not answer" in browser.text("#notice")
        self.shoot("gone")

    def run(self):
        self.start()
        for step in (
            self.the_token_is_asked_for, self.a_link_brings_the_token_and_hides_it, self.nothing_is_there_yet, self.a_file_is_stored,
            self.it_is_fetched_by_another_node, self.the_node_is_seen, self.a_stored_page_does_not_run, self.script_that_comes_in_does_not_run,
            self.many_files_do_not_freeze_it, self.a_page_that_is_not_seen_asks_nothing, self.a_daemon_that_is_gone_is_told,
        ):
            step()
            print(f"ok: {step.__name__.replace('_', ' ')}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", nargs="?", default="target/debug/casnode")
    parser.add_argument("--screenshots", metavar="DIR")
    args = parser.parse_args()
    if args.screenshots:
        os.makedirs(args.screenshots, exist_ok=True)
    # Short, since a socket's path has little room.
    with tempfile.TemporaryDirectory(prefix="cnweb", ignore_cleanup_errors=True) as folder:
        check = Check(os.path.realpath(args.binary), folder, args.screenshots)
        try:
            check.run()
        except BaseException:
            if check.browser:
                print("the console:", *check.browser.log(), sep="\n  ")
                check.browser.screenshots(args.screenshots, "failed")
            raise
        finally:
            check.stop()


if __name__ == "__main__":
    main()
