#!/usr/bin/env python3
"""The service's live page in a real Chromium: what it shows, what its buttons and keys do, and that it fits a phone.

    scripts/page_test.py PROGRAM            use this build of `keylatch`
    scripts/page_test.py PROGRAM --pictures FOLDER    leave the screenshots there

Chromium and its driver are taken from the PATH, or from Debian's packages (unpacked under target/debian). Everything
listens on loopback and ends with this script.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from debian_packages import MissingProgramError, program

# What a step waits for happens long before this.
PATIENCE = 30.0
KEYS = {"tab": "\ue004", "enter": "\ue007", "escape": "\ue00c"}
PHONE = (390, 844)
DESK = (1280, 1000)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(method: str, url: str, body: object | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def until(what: str, look: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            if found := look():
                return found
        time.sleep(0.05)
    raise AssertionError(f"not in time: {what}")


class Server:
    """The service under test, which can be restarted on its port."""

    def __init__(self, keylatch: str, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [keylatch, "serve", "--listen", f"127.0.0.1:{self.port}", "--state", str(folder / "state")]
        self.command += ["--drain-ms", "1", "--log", "error"]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command)
        until("the server answers", lambda: call("GET", self.url + "/healthz"))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)

    def post(self, path: str, body: object) -> Any:
        return call("POST", self.url + path, body)

    def session(self, owner: str) -> str:
        return str(self.post("/v1/sessions", {"owner": owner, "ttl_ms": 120_000})["session"])

    def lock(self, session: str, number: int, key: tuple[str, str], wait_ms: int = 0) -> Any:
        item = {"bucket": key[0], "object": key[1]}
        return self.post(
            "/v1/lock", {"session": session, "request_id": number, "items": [item], "wait_ms": wait_ms}
        )

    def claim(self, session: str, number: int, layer: str) -> Any:
        resource = {"bucket": "layers", "object": layer}
        return self.post("/v1/claim", {"session": session, "request_id": number, "resource": resource})


class Browser:
    """A Chromium without a window, driven by the W3C WebDriver protocol."""

    def __init__(self) -> None:
        port = free_port()
        self.driver = subprocess.Popen([str(program("chromedriver")), f"--port={port}", "--silent"])
        self.base = f"http://127.0.0.1:{port}"
        until("the driver answers", lambda: call("GET", self.base + "/status")["value"]["ready"])
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        options = {"binary": str(program("chromium")), "args": arguments}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = call("POST", self.base + "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.base += "/session/" + made["value"]["sessionId"]

    def close(self) -> None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            call("DELETE", self.base)
        self.driver.terminate()
        self.driver.wait(PATIENCE)

    def do(self, path: str, body: object) -> Any:
        return call("POST", self.base + path, body)["value"]

    def run(self, script: str) -> Any:
        return self.do("/execute/sync", {"script": script, "args": []})

    def text(self, element: str) -> str:
        return str(self.run(f"return document.getElementById({element!r}).innerText"))

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, where the focus is."""
        actions = [
            {"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")
        ]
        self.do("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def developer(self, command: str, **parameters: object) -> Any:
        return self.do("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look_like(self, size: tuple[int, int], scheme: str) -> None:
        self.developer(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=size == PHONE,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.developer("Emulation.setEmulatedMedia", features=features)

    def picture(self, path: Path) -> None:
        shown = self.developer("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(shown["data"]))

    def complaints(self) -> list[str]:
        logged = call("POST", self.base + "/se/log", {"type": "browser"})["value"]
        return [entry["message"] for entry in logged if entry["level"] == "SEVERE"]


def fill(server: Server) -> dict[str, Any]:
    """Make locks, waiters and claims that the page can show."""
    nodes = {name: server.session(name) for name in ("node-1", "node-2", "node-3", "backup (4711)")}
    server.lock(nodes["node-1"], 1, ("photos", "2026/11/cat.jpg"))
    server.lock(nodes["node-2"], 1, ("photos", "2026/11/dog.jpg"))
    server.lock(nodes["backup (4711)"], 1, ("backups", "db"))
    server.lock(nodes["node-3"], 1, ("photos", "2026/11/cat.jpg"), wait_ms=1)
    server.lock(nodes["node-2"], 2, ("photos", "2026/11/cat.jpg"), wait_ms=1)
    mine = server.claim(nodes["node-1"], 10, "sha256:4711")
    server.claim(nodes["node-2"], 10, "sha256:4711")
    server.claim(nodes["node-3"], 10, "sha256:4711")
    report = {"session": nodes["node-1"], "request_id": 10, "grant": mine["grant"], "done": 25, "total": 100}
    server.post("/v1/progress", report)
    first = server.claim(nodes["node-2"], 11, "sha256:0815")
    server.post(
        "/v1/complete",
        {"session": nodes["node-2"], "request_id": 11, "grant": first["grant"], "note": "12 MiB"},
    )
    return {"nodes": nodes, "grant": mine["grant"], "report": report}


def keep_busy(server: Server, stop: threading.Event) -> None:
    """Lock and unlock, so that the charts have something to draw."""
    sessions = [server.session(f"worker-{number}") for number in range(2)]
    number = 100
    while not stop.wait(0.02):
        number += 1
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            for session in sessions:
                server.lock(session, number, ("hot", "counter"), wait_ms=1)
            for session in sessions:
                server.post("/v1/cancel", {"session": session, "request_id": number, "settled_below": number})


def check(step: str, condition: object) -> None:
    if not condition:
        raise AssertionError(step)
    print(f"  {step}")


def walk(server: Server, browser: Browser, pictures: Path) -> None:
    browser.look_like(DESK, "light")
    facts = fill(server)
    stop = threading.Event()
    busy = threading.Thread(target=keep_busy, args=(server, stop))
    busy.start()
    try:
        browser.do("/url", {"url": server.url + "/"})
        until("the page is live", lambda: browser.text("state") == "live")
        until("locks appear", lambda: "photos/2026/11/cat.jpg" in browser.text("held"))
        until("who blocks whom", lambda: "node-1" in browser.text("waiting"))
        until("claims with progress", lambda: "25 %" in browser.text("claims"))
        check("data appears: locks, who blocks whom, claims with progress", True)
        until("charts", lambda: browser.run("return document.querySelectorAll('#cards polyline').length") == 3)
        stop.set()
        busy.join()
        take_pictures(browser, pictures)
        browser.look_like(DESK, "light")
        update(server, browser, facts)
        measure_twice(browser)
        narrow(browser)
        release_by_keys(server, browser)
        restart(server, browser)
    finally:
        stop.set()
        busy.join()
    # A restart cuts connections, which the browser logs; nothing else may be wrong.
    others = [text for text in browser.complaints() if "net::ERR" not in text and "favicon" not in text]
    check(f"no errors, and nothing that the content policy refuses {others or ''}", not others)


def take_pictures(browser: Browser, pictures: Path) -> None:
    for name, size in (("desk", DESK), ("phone", PHONE)):
        for scheme in ("light", "dark"):
            browser.look_like(size, scheme)
            background = browser.run("return getComputedStyle(document.body).backgroundColor")
            check(f"{name}, {scheme}: the background is {background}", (background == "rgb(255, 255, 255)") == (scheme == "light"))
            width = browser.run("return document.scrollingElement.scrollWidth")
            check(f"{name}, {scheme}: {width} px wide, no sideways scrolling", width <= size[0])
            browser.picture(pictures / f"page-{name}-{scheme}.png")


def update(server: Server, browser: Browser, facts: dict[str, Any]) -> None:
    server.lock(facts["nodes"]["node-3"], 2, ("photos", "new.jpg"))
    until("a new lock", lambda: "photos/new.jpg" in browser.text("held"))
    server.post("/v1/unlock", {"session": facts["nodes"]["node-3"], "request_id": 2})
    until("a lock that is gone", lambda: "photos/new.jpg" not in browser.text("held"))
    server.post("/v1/progress", {**facts["report"], "done": 60})
    until("more progress", lambda: "60 %" in browser.text("claims"))
    check("changes arrive by themselves", True)


def measure_twice(browser: Browser) -> None:
    """Has the page ask for figures several times, while it has no answer yet."""
    browser.run("window.measured = false; Promise.all([1, 2, 3, 4].map(measure)).then(() => { window.measured = true; })")
    until("four answers", lambda: browser.run("return window.measured"))
    lines = "return [...document.querySelectorAll('#cards polyline')].map(line => line.getAttribute('points')).join(' ')"
    points = browser.run(lines)
    check("several measurements at a time draw numbers", bool(points) and "NaN" not in points and "Infinity" not in points)


def narrow(browser: Browser) -> None:
    browser.run("document.activeElement.blur()")
    browser.press("/")
    check("the key / goes to the filter", browser.run("return document.activeElement.id") == "bucket")
    browser.press(*"backups", "enter")
    until("only what the filter passes", lambda: "photos/" not in browser.text("held") + browser.text("claims"))
    check("the filter keeps what it names", "backups/db" in browser.text("held"))
    browser.run("document.getElementById('bucket').value = ''; document.getElementById('filter').requestSubmit()")
    until("everything again", lambda: "photos/" in browser.text("held"))


def release_by_keys(server: Server, browser: Browser) -> None:
    browser.run("document.querySelector('[aria-label^=\"Release backups/db\"]').focus()")
    browser.press("enter")
    until("the question", lambda: browser.run("return document.getElementById('confirm').open"))
    check("the question names key and owner", "backups/db, held by backup (4711)" in browser.text("confirm-text"))
    browser.press("escape")
    until("no answer closes it", lambda: not browser.run("return document.getElementById('confirm').open"))
    check("nothing was released", call("GET", server.url + "/v1/locks?bucket=backups")["rows"])
    browser.run("document.querySelector('[aria-label^=\"Release backups/db\"]').focus()")
    browser.press("enter")
    until("the question", lambda: browser.run("return document.activeElement.id") == "no")
    browser.press("tab", "enter")
    until("the lock is gone from the page", lambda: "backups/db" not in browser.text("held"))
    check("a lock is released by keys alone", not call("GET", server.url + "/v1/locks?bucket=backups")["rows"])
    browser.run("document.querySelector('[aria-label^=\"Release the claim\"]').focus()")
    browser.press("enter")
    until("the question", lambda: browser.run("return document.activeElement.id") == "no")
    browser.press("tab", "enter")
    until("the next owner", lambda: "node-2, attempt 2" in browser.text("claims"))
    check("a claim is released by keys alone, and the next in line owns it", True)


def restart(server: Server, browser: Browser) -> None:
    epoch = browser.text("epoch")
    server.stop()
    until("the page says that it is cut", lambda: browser.text("state") != "live")
    server.start()
    until("the page is live again", lambda: browser.text("state") == "live" and browser.text("epoch") != epoch)
    until("the old state is gone", lambda: "Nothing is held." in browser.text("held"))
    until("the old claims are gone", lambda: "Nothing is claimed." in browser.text("claims"))
    check(f"it reconnects after a restart: {epoch}, then {browser.text('epoch')}", True)


@contextlib.contextmanager
def closing(thing: Server | Browser) -> Iterator[None]:
    try:
        yield
    finally:
        thing.stop() if isinstance(thing, Server) else thing.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Tests the live page in a Chromium.")
    parser.add_argument("program", help="the keylatch to test")
    parser.add_argument("--pictures", type=Path, help="folder for screenshots")
    options = parser.parse_args()
    try:
        program("chromium"), program("chromedriver")
    except MissingProgramError as error:
        print(error, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        pictures = options.pictures or Path(folder)
        pictures.mkdir(parents=True, exist_ok=True)
        server = Server(options.program, Path(folder))
        with closing(server):
            browser = Browser()
            with closing(browser):
                walk(server, browser, pictures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
