#!/usr/bin/env python3
"""Checks ops/ against a real Prometheus that scrapes a running example.

    scripts/ops_test.py EXAMPLE     EXAMPLE is the program `monitored`, built

1. promtool accepts the rules, and the tests of each rule pass: one that fires and one that does not.
2. Prometheus scrapes the example: a manager and a monitor of typed locks. Every query of the dashboard is evaluated and has a result, every rule is evaluated
   without an error, and every metric that one of them names is in a scrape. A query for a metric that is in none is
   put among them, and has to be found.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from debian_packages import MissingProgramError, program

PROJECT = Path(__file__).resolve().parent.parent
OPS = PROJECT / "ops"
RULES = OPS / "alerts" / "keylatch.rules.yml"
DASHBOARD = OPS / "grafana" / "keylatch.json"
# Nothing takes this long unless it hangs, on a machine that has much else to do.
PATIENCE = 120.0
METRIC = re.compile(r"\bkeylatch_\w+")
# Jobs, and the path of the example that each scrapes: the manager's figures and those of typed locks.
PATHS = {"example": "/metrics", "typed": "/locks"}
# What Grafana puts in the place of its variables.
VARIABLES = {
    "$datasource": "",
    "$__rate_interval": "10s",
    "$__interval": "1s",
    "$__range": "1m",
    "$job": ".*",
    "$instance": ".*",
}


class Problem(Exception):
    """Something in ops/ that does not work."""


def say(what: str) -> None:
    print(f"-- ops: {what}", flush=True)


def check_rules(promtool: Path) -> list[str]:
    """Have promtool check and test the rules. Returns their names."""
    run([str(promtool), "check", "rules", str(RULES)])
    names = re.findall(r"^\s*- alert: (\w+)$", RULES.read_text(), re.MULTILINE)
    for name in names:
        tests = OPS / "alerts" / "tests" / f"{name}.yml"
        text = tests.read_text() if tests.exists() else ""
        for title in (f"{name} fires", f"{name} does not fire"):
            if f"- name: {title}\n" not in text:
                raise Problem(f"{tests} has no test named {title!r}")
        if "exp_alerts: []" not in text or "exp_labels:" not in text:
            raise Problem(f"{tests} does not have both an alert and none")
        run([str(promtool), "test", "rules", tests.name], tests.parent)
    return names


def run(command: list[str], folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Problem(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def dashboard_queries() -> list[tuple[str, str]]:
    """Return title and expression of every query of every panel."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    if len(queries) < 10:
        raise Problem(f"{DASHBOARD} has {len(queries)} queries; where are the others?")
    for variable in dashboard["templating"]["list"]:
        if f"${variable['name']}" not in VARIABLES:
            raise Problem(f"{DASHBOARD} has a variable {variable['name']} that is not known here")
    return queries


def filled_in(expression: str) -> str:
    for name, value in sorted(VARIABLES.items(), key=lambda each: -len(each[0])):
        expression = expression.replace(name, value)
    if "$" in expression:
        raise Problem(f"{expression} has a variable that is not known here")
    return expression


class Prometheus:
    """A Prometheus that runs."""

    def __init__(self, port: int) -> None:
        """Remember where it listens."""
        self._address = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        address = f"{self._address}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:
                # It is starting.
                raise ConnectionError(path) from error
            raise Problem(f"{path} {parameters}: {error.read().decode(errors='replace')}") from error

    def scrapes(self) -> float:
        """Return how many scrapes of each path of the example there were at least."""
        found = self.result("count_over_time(up[10m]) * on (job) (up == 1)")
        return min(float(each["value"][1]) for each in found) if len(found) == len(PATHS) else 0.0

    def names(self) -> set[str]:
        return set(self.get("/api/v1/label/__name__/values"))

    def result(self, expression: str) -> list[Any]:
        return list(self.get("/api/v1/query", query=expression)["result"])

    def unevaluated(self) -> list[str]:
        """Return the rules that were not evaluated yet, or with an error."""
        groups = self.get("/api/v1/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        broken = [rule for rule in rules if rule["health"] == "err"]
        if broken:
            raise Problem(f"{broken[0]['name']} cannot be evaluated: {broken[0].get('lastError')}")
        return [rule["name"] for rule in rules if rule["health"] != "ok"]

    def rules(self) -> dict[str, str]:
        groups = self.get("/api/v1/rules")["groups"]
        return {rule["name"]: rule["query"] for group in groups for rule in group["rules"]}


def until(what: str, happened: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while True:
        try:
            if happened():
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        if time.monotonic() > give_up_at:
            raise Problem(f"this never happened: {what}")
        time.sleep(0.1)


def check_queries(server: Prometheus, queries: list[tuple[str, str]]) -> None:
    """Check that every metric of the queries is scraped, and that every query has a result."""
    names = server.names()
    for title, expression in queries:
        for metric in METRIC.findall(expression):
            if metric not in names:
                raise Problem(f"{title}: no scrape contains {metric}")
        asked = filled_in(expression)
        until(f"{title}: {asked} has a result", partial(has_result, server, asked))


def has_result(server: Prometheus, expression: str) -> bool:
    return bool(server.result(expression))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a program for as long as the block lasts."""
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def check_scrapes(prometheus: Path, example: str, alerts: list[str]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="ops-", dir=PROJECT / "target"))
    try:
        with running([example, "--seconds", "300"], folder / "example.log") as process:
            assert process.stdout is not None
            address = urllib.parse.urlsplit(process.stdout.readline().strip()).netloc
            if not address:
                raise Problem(f"{example} does not start:\n{(folder / 'example.log').read_text()}")
            (folder / "prometheus.json").write_text(
                json.dumps(
                    {
                        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                        "rule_files": [str(RULES)],
                        "scrape_configs": [
                            {"job_name": job, "metrics_path": path, "static_configs": [{"targets": [address]}]}
                            for job, path in PATHS.items()
                        ],
                    }
                )
            )
            port = free_port()
            command = [
                str(prometheus),
                f"--config.file={folder / 'prometheus.json'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ]
            with running(command, folder / "prometheus.log") as watching:
                server = Prometheus(port)
                check_server(server, watching, folder, alerts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_server(server: Prometheus, watching: subprocess.Popen[str], folder: Path, alerts: list[str]) -> None:
    def enough() -> bool:
        if watching.poll() is not None:
            raise Problem(f"Prometheus has ended:\n{(folder / 'prometheus.log').read_text()[-2000:]}")
        return server.scrapes() >= 4

    say("Prometheus scrapes the example")
    until("four scrapes of the example", enough)
    until("every rule is evaluated", lambda: not server.unevaluated())
    rules = server.rules()
    if sorted(rules) != sorted(alerts):
        raise Problem(f"Prometheus knows the rules {sorted(rules)}, the file has {sorted(alerts)}")
    names = server.names()
    for name, expression in rules.items():
        for metric in METRIC.findall(expression):
            if metric not in names:
                raise Problem(f"{name}: no scrape contains {metric}")
    queries = dashboard_queries()
    check_queries(server, queries)
    try:
        check_queries(server, [("made up", "rate(keylatch_made_up_total[1m])")])
    except Problem as found:
        if "no scrape contains keylatch_made_up_total" not in str(found):
            raise
    else:
        raise Problem("a metric that no scrape contains was not found out")
    say(f"{len(rules)} rules and {len(queries)} queries are evaluated, and find what they ask for")


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    began = time.monotonic()
    try:
        say("promtool checks and tests the rules")
        alerts = check_rules(program("promtool"))
        check_scrapes(program("prometheus"), sys.argv[1], alerts)
    except (Problem, MissingProgramError) as problem:
        print(f"ops: {problem}", file=sys.stderr)
        return 1
    say(f"passed in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
