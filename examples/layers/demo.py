"""Workers that share a cache of layers; the first owner is killed, and the origin still sends each layer once.

usage: demo.py KEYLATCH [WORKERS [LAYERS]]      KEYLATCH is the program `keylatch`
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from origin import Origin

HERE = Path(__file__).parent


def start_server(program: str) -> tuple[subprocess.Popen[str], str]:
    """Start a lock service on a port that the system chooses; return its URL, too."""
    command = [program, "serve", "--listen", "127.0.0.1:0", "--state", "none", "--grace-ms", "1000"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout is not None
    for line in server.stdout:
        if "listens on" in line:
            return server, f"http://{line.split()[-1]}"
    raise SystemExit(f"{program} did not start")


def main(program: str, workers: str = "4", layers: str = "5") -> None:
    """Run the workers, kill the one that is half-way with its layer, and print what the origin counted."""
    origin = Origin(int(layers), stalls=1)
    server, url = start_server(program)
    with server, tempfile.TemporaryDirectory() as folder:
        try:
            running = {}
            for number in range(int(workers)):
                name = f"worker-{number + 1}"
                command = [sys.executable, str(HERE / "worker.py"), name, url, origin.url, folder, *origin.layers]
                running[name] = subprocess.Popen(command)
            assert origin.stalled.wait(120), "no worker came"
            victim = origin.stalled_worker
            running[victim].kill()
            print(f"{victim}: killed half-way", flush=True)
            for name, process in running.items():
                status = process.wait(120)
                assert (status == 0) == (name != victim), f"{name} ended with {status}"
            for digest, data in origin.layers.items():
                assert (Path(folder) / digest).read_bytes() == data
        finally:
            server.kill()
    print(f"the origin sent {dict(origin.completed)}")
    assert set(origin.completed.values()) == {1}, origin.completed
    assert len(origin.completed) == int(layers)
    # The killed worker's half is what it costs.
    assert sorted(origin.begun.values()) == [1] * (int(layers) - 1) + [2], origin.begun
    origin.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
