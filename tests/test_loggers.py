"""What W&B and TensorBoard are told, read back from the files of offline runs."""

import json
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch

from lookalike.errors import InputError
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.reports.loggers import for_tables, open_wandb
from lookalike.reports.workspace import save_workspace

Cli = Callable[..., Any]
QUIET = pytest.mark.filterwarnings(  # wandb-workspaces is written for an older pydantic
    "ignore::DeprecationWarning:pydantic", "ignore::DeprecationWarning:wandb_workspaces"
)
BLOCK = 32768  # bytes; a .wandb file is a log in LevelDB's format


def read_wandb(file: Path) -> list[Any]:
    """All records, in order."""
    from wandb.proto import wandb_internal_pb2

    data = file.read_bytes()
    assert data[:4] == b":W&B"
    place, parts, records = 7, b"", []
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:  # no room for a header: the block's end is filled up
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


def dictionary(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_a_sweep_is_one_group_of_whole_runs_on_wandb(cli: Cli, tiny: tuple[str, ...]) -> None:
    cli(
        "train", "-m", *tiny, "seed=0", "logger=wandb", "loss=triplet,snr", "report=curves",
        "trainer.max_epochs=2",
    )  # fmt: skip
    files = sorted(Path("outputs").glob("train/*/*/wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2  # the second job did not write into the first one's
    groups, cells = set(), set()
    for file in files:
        records = read_wandb(file)
        (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"][:1]
        groups.add(run.run_group)
        loss = run.job_type.removeprefix("loss=")  # what was swept
        cells.add(run.job_type)
        assert list(run.tags) == ["folder", "tiny", loss]

        config = dictionary(u for r in records for u in (*r.config.update, *r.run.config.update))
        told = json.dumps(config)
        assert config["loss"]["class"] in ("TripletMarginLoss", "SignalToNoiseRatioContrastiveLoss")
        assert config["versions"]["torch"]
        assert "_target_" not in told
        assert not {"embedder", "paths", "logger", "callbacks"} & set(config)

        metrics = {r.metric.name: r.metric for r in records if r.HasField("metric")}
        assert metrics["val/map_at_r"].summary.max
        assert metrics["val/map_at_r"].step_metric == "epoch"

        history = [dictionary(r.history.item) for r in records if r.HasField("history")]
        assert sum("val/map_at_r" in step for step in history) == 2
        assert sum("train/loss" in step for step in history) >= 2  # an epoch has five steps
        assert any("learning_rate/backbone" in step for step in history)
        (last,) = [step for step in history if "examples/_type" in step]
        assert last["examples/_type"] == "table-file"
        assert last["report/curves/_type"] == "image-file"
        table = json.loads((file.parent / "files" / last["examples/path"]).read_text())
        assert table["columns"] == ["query", "class", "nearest", "right", "similarity"]
        assert len(table["data"]) == 16
        for row in table["data"]:
            assert row[3] in (0, 0.2, 0.4, 0.6, 0.8, 1)

        folder = file.parents[2]
        written = json.loads((folder / "metrics.json").read_text())
        summaries = [dictionary(r.summary.update) for r in records if r.HasField("summary")]
        summary = {key: value for part in summaries for key, value in part.items()}
        assert summary["test/map_at_r"] == pytest.approx(written["test/map_at_r"])
        assert summary["parameters"] == written["parameters"]
        assert summary["counts.train_images"] == written["counts"]["train_images"] == 36
        artifacts = [r.artifact for r in records if r.HasField("artifact")] + [
            r.request.log_artifact.artifact
            for r in records
            if r.HasField("request") and r.request.HasField("log_artifact")
        ]
        (shown,) = [artifact for artifact in artifacts if artifact.type == "run_table"]
        pictures = [e for e in shown.manifest.contents if e.path.endswith(".png")]
        assert len(pictures) == 16
        assert all(Path(entry.local_path).is_file() for entry in pictures)
        models = [artifact for artifact in artifacts if artifact.type == "model"]
        assert [set(model.aliases) - {"latest"} for model in models] == [{"best"}]
        (entry,) = models[0].manifest.contents
        uploaded = torch.load(entry.local_path, weights_only=True)
        assert "optimizer_states" not in uploaded
        assert read_checkpoint(entry.local_path).embedder()
        assert any(r.HasField("exit") and r.exit.exit_code == 0 for r in records)
        assert read_checkpoint(folder / "checkpoints" / "best.ckpt")  # still plain data
    assert len(groups) == 1
    assert groups.pop().startswith("train_2")
    assert cells == {"loss=triplet", "loss=snr"}


class WandbServer(ThreadingHTTPServer):
    """Knows one user, keeps the views that are sent to it, or refuses them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), WandbHandler)
        self.views: list[dict[str, Any]] = []
        self.refuses = False


class WandbHandler(BaseHTTPRequestHandler):
    server: WandbServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/graphql":  # W&B's own statistics
            return self.send_error(404)
        asked = json.loads(body)
        if "viewer" in asked["query"]:
            user = {"id": "1", "entity": "me", "username": "me", "flags": "{}"}
            answer = {"data": {"viewer": user | {"teams": {"edges": []}}}}
        elif self.server.refuses:
            answer = {"errors": [{"message": "permission denied"}]}
        else:
            self.server.views.append(asked["variables"])
            view = {"id": "1", "name": asked["variables"]["name"]}
            answer = {"data": {"upsertView": {"view": view, "inserted": True}}}
        sent = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def wandb_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    import wandb

    with suppress(ConnectionError):  # its process may have ended with an earlier test
        wandb.teardown()  # it has read the environment of earlier tests
    with WandbServer() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        yield server
        server.shutdown()
    wandb.teardown()


@QUIET
@pytest.mark.slow
def test_a_workspace_shows_what_runs_log(
    cli: Cli,
    tiny: tuple[str, ...],
    wandb_server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import wandb

    with monkeypatch.context() as here:
        here.setenv("WANDB_MODE", "offline")
        cli("train", *tiny, "logger=wandb", "trainer.log_every_n_steps=1")
        wandb.teardown()  # its process has then written the file to the end
    (file,) = Path("outputs").glob("train/*/wandb/offline-run-*/run-*.wandb")
    records = read_wandb(file)
    (run,) = [r.run for r in records if r.WhichOneof("record_type") == "run"][:1]
    assert (run.run_group, run.job_type) == ("", "train")
    steps = [dictionary(r.history.item) for r in records if r.HasField("history")]
    ends = [dictionary(r.summary.update) for r in records if r.HasField("summary")]
    logged = {key for told in (*steps, *ends) for key in told}

    cli("report", "wandb=me/flowers")
    assert re.search(r"^http://127.0.0.1:\d+/me/flowers\?nw=\w+$", capsys.readouterr().out, re.M)
    (view,) = wandb_server.views
    assert (view["entityName"], view["projectName"]) == ("me", "flowers")
    told = json.loads(view["spec"])
    sections = told["section"]["panelBankConfig"]["sections"]
    panels = [panel["config"] for section in sections for panel in section["panels"]]
    keys = {key for panel in panels for key in panel.get("metrics", [])}
    keys |= {panel["xAxis"].removeprefix("summary:") for panel in panels if "xAxis" in panel}
    keys |= {panel["yAxis"].removeprefix("summary:") for panel in panels if "yAxis" in panel}
    assert {"test/map_at_r", "val/map_at_r", "train/loss", "training_seconds", "epoch"} <= keys
    assert keys <= logged
    assert "examples/_type" in logged


@QUIET
def test_a_workspace_that_can_not_be_made(wandb_server: WandbServer) -> None:
    wandb_server.refuses = True
    with pytest.raises(InputError, match=r"permission denied.*are you logged in"):
        save_workspace("me/flowers", "map_at_r")
    with pytest.raises(InputError, match="give entity/project"):
        save_workspace("flowers", "map_at_r")


@pytest.mark.slow
def test_without_a_network_the_run_goes_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    import wandb

    with suppress(ConnectionError):  # its process may have ended with an earlier test
        wandb.teardown()  # it has read the environment of earlier tests
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr("lookalike.reports.loggers.PATIENCE", 3.0)
    logger = open_wandb(str(tmp_path), project="lookalike")
    logger.log_metrics({"train/loss": 1.0}, step=0)
    logger.experiment.finish()
    wandb.teardown()
    assert "wandb sync" in caplog.text
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert any("train/loss" in dictionary(r.history.item) for r in read_wandb(file))


def test_configurations_for_tables() -> None:
    node = {
        "loss": {"_target_": "a.b.Loss", "distance": {"_target_": "Lp", "_partial_": True, "p": 2}},
        "data": {"paths": [1, 2]},
        "seed": 0,
    }
    assert for_tables(node) == {
        "loss": {"class": "Loss", "distance": {"class": "Lp", "p": 2}},
        "data": {"paths": [1, 2]},
        "seed": 0,
    }


@pytest.mark.slow
def test_tensorboard_shows_pictures_and_a_projector(cli: Cli, tiny: tuple[str, ...]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cli("train", *tiny, "logger=tensorboard", "report=[curves,answers]", "hydra.run.dir=run")
    folder = Path("run", "tensorboard")
    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()
    assert {"examples", "report/curves", "report/answers"} <= set(tags["images"])
    assert {"val/map_at_r", "hparam/test/map_at_r"} <= set(tags["scalars"])
    assert "hp_metric" not in tags["scalars"]
    written = json.loads(Path("run", "metrics.json").read_text())
    (score,) = events.Scalars("hparam/test/map_at_r")
    assert score.value == pytest.approx(written["test/map_at_r"])
    assert "_hparams_/experiment" in events.summary_metadata
    (vectors,) = folder.glob("*/test/tensors.tsv")
    (labels,) = folder.glob("*/test/metadata.tsv")
    assert np.loadtxt(vectors).shape == (48, 8)
    assert len(labels.read_text().splitlines()) == 48
    assert (folder / "projector_config.pbtxt").is_file()
