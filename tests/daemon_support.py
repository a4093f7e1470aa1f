"""Dagster's daemon and web server as processes on a folder of their own, and their public GraphQL interface."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
LOCATION = "loop"
REPOSITORY_NAME = "__repository__"  # Dagster's name for what one `Definitions` makes
Found = TypeVar("Found")

CONFIG = """
telemetry: {enabled: false}
nux: {enabled: false}
concurrency: {runs: {max_concurrent_runs: 2}}
run_retries: {enabled: true}
run_monitoring: {enabled: true, start_timeout_seconds: 90, poll_interval_seconds: 5}
"""
WORKSPACE = f"""
load_from:
  - python_file:
      relative_path: {REPOSITORY / "tests" / "daemon_location.py"}
      working_directory: {REPOSITORY}
      location_name: {LOCATION}
"""
RUNS = """
query Runs($filter: RunsFilter) { runsOrError(filter: $filter, limit: 500) { ... on Runs { results {
  runId jobName status tags { key value } startTime endTime } } } }
"""
TICKS = """
query Ticks($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor { sensorState {
  ticks(limit: 5000) { timestamp endTimestamp status runIds error { message } } } } } }
"""
CHECKS = """
query Checks($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { assetChecksOrError {
  ... on AssetChecks { checks { name executionForLatestMaterialization { status evaluation {
    severity success description } } } } } } } }
"""
GRAPH = "{ assetNodes { assetKey { path } dependencyKeys { path } kinds groupName } }"
EVENTS = """
query Events($key: AssetKeyInput!, $partitions: [String!]) { assetOrError(assetKey: $key) { ... on Asset {
  assetMaterializations(partitions: $partitions, limit: 100) { partition runId
    tags { key value } metadataEntries { label } } } } }
"""
LAUNCH = """
mutation Launch($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def eventually(what: str, look: Callable[[], Found | None], seconds: float = 240.0, log: Path | None = None) -> Found:
    """What `look` finds, as soon as it finds something."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        found = look()
        if found:
            print(f"{time.monotonic() - began:6.1f} s until {what}")  # noqa: T201 - read when it fails
            return found
        time.sleep(0.25)
    pytest.fail(f"waited {seconds:.0f} s in vain for {what}\n{'' if log is None else log.read_text()[-3000:]}")


@dataclass
class Dagster:
    """A Dagster deployment below a folder.

    Args:
        folder: gets ``home`` (the instance), ``code`` (where the processes run) and the logs.
        settings: the settings file of the platform's root.
    """

    folder: Path
    settings: Path
    port: int = field(default_factory=free_port)
    _started: list[psutil.Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("home", "code"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "home" / "dagster.yaml").write_text(CONFIG)
        (self.folder / "code" / "workspace.yaml").write_text(WORKSPACE)

    @property
    def log(self) -> Path:
        return self.folder / "dagster.log"

    def start_daemon(self) -> psutil.Process:
        return self._start("dagster._daemon", "run", "-w", "workspace.yaml")

    def start_web_server(self) -> None:
        self._start("dagster_webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(self.port))
        eventually("the web server", self._answers, log=self.log)

    def _start(self, module: str, *arguments: str) -> psutil.Process:
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(self.folder / "home"),
            "ML_PLATFORM_SETTINGS": str(self.settings),
            "PYTHONPATH": str(REPOSITORY),
        }
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self.folder / "code",
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        process = psutil.Process(started.pid)
        self._started.append(process)
        return process

    def kill(self, process: psutil.Process) -> None:
        """``kill -9`` of this one process; what it started lives on, and is known for the end."""
        self._started += process.children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait(30)

    def stop(self) -> None:
        """Ends every process that was started here, and what those have started."""
        doomed: set[psutil.Process] = set()
        for process in self._started:
            try:
                doomed |= {process, *process.children(recursive=True)}
            except psutil.NoSuchProcess:
                continue
        for process in doomed:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(doomed, timeout=30)

    def _answers(self) -> bool:
        try:
            return bool(self.ask(GRAPH)["assetNodes"])
        except (OSError, KeyError, TypeError, urllib.error.URLError):
            return False

    def ask(self, query: str, **variables: Any) -> Any:
        """The answer of the web server's GraphQL interface."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            document = json.load(answer)
        assert "errors" not in document, document["errors"]
        return document["data"]

    def runs(self, job: str | None = None, **tags: str) -> list[dict[str, Any]]:
        """Runs, the oldest first; ``tags`` as a flat mapping in each."""
        wanted = {"pipelineName": job, "tags": [{"key": key, "value": value} for key, value in tags.items()]}
        found = self.ask(RUNS, filter={key: value for key, value in wanted.items() if value})["runsOrError"]["results"]
        return [{**one, "tags": {tag["key"]: tag["value"] for tag in one["tags"]}} for one in reversed(found)]

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """What the daemon wrote down of each tick of a sensor: its times (seconds since 1970), runs and error."""
        selector = {"repositoryName": REPOSITORY_NAME, "repositoryLocationName": LOCATION, "sensorName": sensor}
        return list(self.ask(TICKS, selector=selector)["sensorOrError"]["sensorState"]["ticks"])

    def checks(self, *key: str) -> dict[str, dict[str, Any]]:
        """What the checks of an asset say about its newest materialisation, by name; none while they are made."""
        found = self.ask(CHECKS, key={"path": list(key)})["assetNodeOrError"]["assetChecksOrError"]["checks"]
        shown = {one["name"]: one["executionForLatestMaterialization"] for one in found}
        return {name: one["evaluation"] for name, one in shown.items() if one is not None and one["evaluation"]}

    def events(self, *key: str, partition: str | None = None) -> list[dict[str, Any]]:
        """The materialisations of an asset, the newest first."""
        chosen = None if partition is None else [partition]
        found = self.ask(EVENTS, key={"path": list(key)}, partitions=chosen)["assetOrError"]["assetMaterializations"]
        return [{**one, "tags": {tag["key"]: tag["value"] for tag in one["tags"]}} for one in found]

    def graph(self) -> dict[str, dict[str, Any]]:
        """The lineage graph, by key."""
        return {"/".join(one["assetKey"]["path"]): one for one in self.ask(GRAPH)["assetNodes"]}

    def launch(self, job: str, config: dict[str, Any] | None = None, **tags: str) -> str:
        """Starts a job as the UI's launchpad does; the run's id."""
        selector = {
            "repositoryName": REPOSITORY_NAME,
            "repositoryLocationName": LOCATION,
            "pipelineName": job,
        }
        params = {
            "selector": selector,
            "runConfigData": {} if config is None else {"ops": {f"{job}_op": {"config": config}}},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self.ask(LAUNCH, params=params)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])


@contextmanager
def deployed(folder: Path, settings: Path) -> Iterator[Dagster]:
    """A deployment with a web server; every process of it is gone afterwards."""
    made = Dagster(folder, settings)
    try:
        made.start_web_server()
        yield made
    finally:
        made.stop()
