"""The output directory: what is in it, and what may be done to it."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openrnn.errors import ArgumentError, DataError
from openrnn.files import check_writable, write_text
from openrnn.forecast.checkpoints import Checkpoints, read_progress
from openrnn.forecast.settings import Settings, differences


@dataclass(frozen=True)
class OutputDirectory:
    """The files of a run below `path`."""

    path: Path

    @property
    def forecast(self) -> Path:
        """The forecasts of the test part."""
        return self.path / "forecast.csv"

    @property
    def metrics(self) -> Path:
        """The figures of the run."""
        return self.path / "metrics.json"

    @property
    def plot(self) -> Path:
        """The picture of the test part."""
        return self.path / "forecast.png"

    @property
    def model(self) -> Path:
        """The model directory."""
        return self.path / "model"

    @property
    def run(self) -> Path:
        """The settings of the run, and what the data was."""
        return self.path / "run.json"

    @property
    def checkpoints(self) -> Checkpoints:
        """Lightning's checkpoints."""
        return Checkpoints(self.path / "checkpoints")

    def begin(self, settings: Settings, sha256: str, *, overwrite: bool) -> None:
        """Make room for a new run; refuse to take the place of anything but the same run's."""
        if not overwrite:
            self._check_nothing_lost(settings)
        check_writable(self.path)
        shutil.rmtree(self.checkpoints.directory, ignore_errors=True)
        self._write_run(settings, sha256)

    def resume(self, settings: Settings, sha256: str) -> None:
        """Go on with an earlier run; refuse if its settings or data were others."""
        if not (self.run.is_file() and self.checkpoints.exist()):
            raise ArgumentError(
                f"--resume: expected checkpoints of an earlier run in '{self.path}', received "
                "none; leave --resume out to begin"
            )
        earlier = self._read_run()
        changed = differences(earlier["settings"], settings.as_json(), resuming=True)
        if changed:
            raise ArgumentError(
                f"--resume: expected the settings of the run in '{self.path}', received other "
                f"ones: {'; '.join(changed)}; give the earlier ones, or another --out"
            )
        if earlier["sha256"] != sha256:
            raise ArgumentError(
                f"--resume: expected the data of the run in '{self.path}', received "
                f"'{settings.data}' with other content; leave --resume out and give another --out"
            )
        trained = read_progress(self.checkpoints)
        if trained.epochs > settings.epochs:
            raise ArgumentError(
                f"--epochs: expected at least the {trained.epochs} epochs that the run in "
                f"'{self.path}' has, received {settings.epochs}; give --epochs {trained.epochs}"
            )
        check_writable(self.path)
        self._write_run(settings, sha256)

    def _check_nothing_lost(self, settings: Settings) -> None:
        written = (self.forecast, self.metrics, self.plot, self.model, self.checkpoints.directory)
        there = [path.name for path in written if path.exists()]
        if not there:
            return
        either = "give another --out, or --overwrite to replace it"
        if not self.run.is_file():
            raise ArgumentError(
                f"--out: expected a directory without results, received '{self.path}' with "
                f"{', '.join(there)} of something else; {either}"
            )
        earlier = self._read_run()["settings"]
        changed = differences(earlier, settings.as_json(), resuming=False)
        if changed:
            raise ArgumentError(
                f"--out: expected a directory of the same run, received '{self.path}' of a run "
                f"with other settings: {'; '.join(changed)}; {either}"
            )
        if self.checkpoints.exist():
            trained = read_progress(self.checkpoints)
            if not trained.finished(settings.epochs):
                raise ArgumentError(
                    f"--out: expected a directory whose run has finished, received '{self.path}', "
                    f"stopped after epoch {trained.epochs} of {settings.epochs}; go on with "
                    "--resume, or begin again with --overwrite"
                )

    def _write_run(self, settings: Settings, sha256: str) -> None:
        content = {"settings": settings.as_json(), "sha256": sha256}
        write_text(self.run, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def _read_run(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self.run.read_text(encoding="utf-8"))
            if isinstance(content["settings"], dict) and isinstance(content["sha256"], str):
                return content
            raise ValueError("not the settings of a run")
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"--out: expected the settings of an earlier run in '{self.run}', received what "
                f"cannot be read ({reason}); give another --out, or --overwrite"
            ) from None
