"""A worker: has every layer in the shared folder in the end, and fetches those that no other worker does.

usage: worker.py NAME SERVER ORIGIN FOLDER DIGEST...
"""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from pathlib import Path

from keylatch.claims import Yours
from keylatch.remote import RemoteLocks


def fetch(work: Yours, name: str, url: str, place: Path) -> str:
    """Fetch a layer, and put it into its place as a whole."""
    digest = place.name
    if work.attempt > 1 and place.exists():
        return "was there"  # the owner before was killed between its last step and its completion
    request = urllib.request.Request(f"{url}/{digest}", headers={"x-worker": name})
    part = place.with_name(f"{digest}.{work.fence}")
    with urllib.request.urlopen(request) as answer, part.open("wb") as file:
        total = int(answer.headers["content-length"])
        while piece := answer.read(32 * 1024):
            file.write(piece)
            work.progress(file.tell(), total, url)
    if hashlib.sha256(part.read_bytes()).hexdigest() != digest:
        raise OSError(f"{digest} arrived broken")
    os.replace(part, place)
    return f"fetched by {name}"


def main(name: str, server: str, origin: str, folder: str, *digests: str) -> None:
    """See to every layer."""
    with RemoteLocks(server, owner=name) as locks:
        for digest in digests:
            place = Path(folder) / digest
            note = locks.run_once(("layers", digest), lambda work, place=place: fetch(work, name, origin, place))
            assert place.exists(), place
            print(f"{name}: {digest[:12]} {note}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
