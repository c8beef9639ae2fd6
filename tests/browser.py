"""A page in a real headless Chromium, which sends back what it finds by POST."""

import functools
import http.server
import json
import pathlib
import shutil
import subprocess
import threading
from typing import Any, NamedTuple

import pytest

SECONDS = 300


class Server(http.server.ThreadingHTTPServer):
    said: Any = None
    done: threading.Event


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self):
        self.server.said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.done.set()

    def log_message(self, format: str, *args: Any):
        pass


class Visit(NamedTuple):
    said: Any  # what the page sent
    console: list[str]  # what it wrote to the browser's console, errors among it


def visit(folder: pathlib.Path, page: str, profile: pathlib.Path) -> Visit:
    """Opens a page of the folder in a browser that reaches nothing else, until it sends something.

    Skips the test where there is no Chromium. `profile` is an empty folder for the browser's own files.
    """
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if not chromium:
        pytest.skip("no Chromium on PATH (Debian: apt install chromium)")
    log = profile / "log"
    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server, log.open("w") as file:
        server.done = threading.Event()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}",
            "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"http://127.0.0.1:{server.server_port}/{page}",
        ]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file)
        try:
            assert server.done.wait(SECONDS), f"nothing came from {page} in {SECONDS} s"
        finally:
            process.terminate()
            process.wait(30)
            server.shutdown()
    return Visit(server.said, [line for line in log.read_text().splitlines() if ":CONSOLE" in line])
