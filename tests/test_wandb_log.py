"""What is sent to Weights & Biases: by a stand-in for the package, and by the package itself."""

import importlib.machinery
import json
import os
import struct
import subprocess
import sys
import types
from pathlib import Path

import pytest

import main
from utils import wandb_log
from utils.config import Settings, UserError
from utils.results import ResultsFolder

ROOT = Path(__file__).parent.parent
SMALL = ("--train_size", "64", "--eval_size", "8", "--epochs", "1", "--hidden_size", "16",
         "--num_layers", "1", "--batch_size", "16", "--max_steps", "3")  # fmt: skip


class StandInRun:
    """Remembers what it is given."""

    def __init__(self, options):
        self.options = options
        self.id = options["id"] or "new-id"
        self.url = "https://example.org/run"
        self.rows, self.summary, self.metrics, self.is_finished = [], {}, {}, False

    def define_metric(self, name, step_metric=None):
        self.metrics[name] = step_metric

    def log(self, row):
        self.rows.append(row)

    def finish(self):
        self.is_finished = True


class StandIn(types.ModuleType):
    """The package ``wandb``, as far as it is used.

    Attributes:
        runs: begun so far.
        mode: as the environment and settings files say.
        is_logged_in: whether a key would be found.
        trouble: the mode in which `init` fails.
    """

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = importlib.machinery.ModuleSpec("wandb", None, origin="wandb/__init__.py")
        self.runs, self.mode, self.is_logged_in, self.trouble = [], "online", False, None
        self.times_ended = 0
        self.Settings = dict
        self.Image = lambda path, caption: ("image", Path(path).name, caption)
        self.Html = lambda path, inject: ("page", Path(path).name, inject)

    def setup(self, settings):
        assert settings == {"silent": True}
        return types.SimpleNamespace(settings=types.SimpleNamespace(mode=self.mode))

    def login(self, prompt, verify):
        assert (prompt, verify) == (False, False)  # it would wait for an answer
        return self.is_logged_in

    def init(self, **options):
        if options["mode"] == self.trouble:
            raise ConnectionError("no route\nto host")
        Path(options["dir"], "wandb").mkdir(exist_ok=True)
        self.runs.append(StandInRun(options))
        return self.runs[-1]

    def teardown(self):
        self.times_ended += 1


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for the package; nothing is known of the user's own."""
    package = StandIn()
    hooks = types.ModuleType("wandb.sdk.lib.import_hooks")
    hooks.unregister_all_post_import_hooks = lambda: None
    for name in ("wandb.sdk", "wandb.sdk.lib"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "wandb.sdk.lib.import_hooks", hooks)
    monkeypatch.setitem(sys.modules, "wandb", package)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return package


@pytest.fixture
def folder(tmp_path):
    main.set_up_console(debug=False, quiet=False)
    return ResultsFolder.create(tmp_path, "pytorch")


def settings_of(*options) -> Settings:
    return main.parse(["--version", "pytorch", "--wandb", "--wandb_project", "study", *options])


def a_figure(folder, name, **record):
    folder.figure_path(name).with_suffix(".png").write_bytes(b"png")
    folder.record_figures([{"file": f"{name}.png", **record}])


def test_lines_become_numbers_by_name_with_means_over_heads():
    line = {
        "kind": "probe", "step": 3, "epoch": 1, "loss": 2.0,
        "qkv": {"encoder.0.self_attn.q": {"norm": [1.0, 3.0]}},
        "weights": {"embedding": {"norm": 5.0, "update_ratio": None}},
    }  # fmt: skip
    assert wandb_log.row_of(line) == {
        "step": 3,
        "epoch": 1,
        "probe/loss": 2.0,
        "probe/qkv/encoder/0/self_attn/q/norm": 2.0,
        "probe/weights/embedding/norm": 5.0,
    }
    line = {"kind": "eval", "step": 3, "epoch": 1, "bleu": 1.0, "bleu_signature": "version:2"}
    assert wandb_log.row_of(line) == {"step": 3, "epoch": 1, "eval/bleu": 1.0}


def test_without_the_option_the_package_is_never_imported(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it raises
    logged = wandb_log.begin(folder, main.parse(["--version", "pytorch"]), "pytorch")
    logged.log([{"kind": "train", "step": 1, "epoch": 1, "loss": 2.0}])
    logged.finish("none.json", "metrics")
    assert capsys.readouterr().out == ""  # nor does anything fail


def test_the_package_is_asked_for_before_any_work(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("utils.data.load_corpus", lambda *_: pytest.fail("work was begun"))
    a_folder = importlib.machinery.ModuleSpec("wandb", None, is_package=True)  # called wandb
    for found in (None, a_folder):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found)
        for version in ("pytorch", "huggingface", "both", "analysis"):
            options = ["--version", version, "--wandb", "--output_dir", str(tmp_path)]
            assert main.main(options) == 2
            said = capsys.readouterr().err
            assert said.count("\n") == 1
            assert "pip install wandb" in said
    assert list(tmp_path.iterdir()) == []


def test_a_mode_that_there_is_not_is_refused(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "onlien")
    with pytest.raises(UserError, match="onlien.*online, offline, disabled"):
        wandb_log.require(settings_of().run)
    wandb_log.require(main.parse([]).run)  # it is not used then


def test_nobody_logged_in_means_offline_and_how_to_send_it(folder, wandb, capsys):
    wandb_log.begin(folder, settings_of(), "pytorch")
    (run,) = wandb.runs
    assert run.options["mode"] == "offline"
    assert run.options["project"] == "study"
    assert run.options["dir"] == str(folder.path)
    assert run.options["config"]["hidden_size"] == 64
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"wandb sync {folder.path / 'wandb'}" in said


def test_somebody_logged_in_means_online(folder, wandb, capsys):
    wandb.is_logged_in = True
    wandb_log.begin(folder, settings_of(), "pytorch")
    (run,) = wandb.runs
    assert run.options["mode"] == "online"
    assert run.options["settings"]["console"] == "off"
    assert 0 < run.options["settings"]["init_timeout"] <= 60
    assert 0 < run.options["settings"]["finish_timeout"] <= 60
    assert run.url in capsys.readouterr().out


def test_without_a_network_a_run_is_offline(folder, wandb, capsys):
    wandb.is_logged_in, wandb.trouble = True, "online"
    wandb_log.begin(folder, settings_of(), "pytorch")
    assert [run.options["mode"] for run in wandb.runs] == ["offline"]
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "no route to host" in said
    assert "wandb sync" in said


def test_the_mode_of_the_environment_is_honoured(folder, wandb, monkeypatch):
    wandb.is_logged_in = True
    monkeypatch.setenv("WANDB_MODE", "disabled")
    wandb_log.begin(folder, settings_of(), "pytorch")
    assert wandb.runs == []
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb.mode = "offline"
    wandb_log.begin(folder, settings_of(), "pytorch")
    assert [run.options["mode"] for run in wandb.runs] == ["offline"]
    monkeypatch.delenv("WANDB_MODE")
    wandb.mode = "disabled"  # by a settings file
    wandb_log.begin(folder, settings_of(), "pytorch")
    assert len(wandb.runs) == 1


@pytest.mark.parametrize("where", ["import", "begin", "log", "figures", "finish", "end"])
def test_a_failure_is_said_once_and_ends_only_the_log(where, tmp_path, wandb, capsys, monkeypatch):
    main.set_up_console(debug=False, quiet=True)  # a warning is shown even so
    folder = ResultsFolder.create(tmp_path, "pytorch")
    a_figure(folder, "curves", shows="curves")
    folder.write_json("summary.json", {"metrics": {"nll": 1.5}})

    def fail(*args, **options):
        raise ConnectionResetError("Connection lost\n")

    if where == "import":
        monkeypatch.setitem(sys.modules, "wandb", None)
    elif where == "begin":
        wandb.trouble = "offline"
    elif where == "figures":
        wandb.Image = fail
    elif where == "end":
        wandb.teardown = lambda: sys.exit(3)  # it does so if its process failed
    else:
        monkeypatch.setattr(StandInRun, where, fail)
    logged = wandb_log.begin(folder, settings_of(), "pytorch")
    for step in (1, 2):
        logged.log([{"kind": "train", "step": step, "epoch": 1, "loss": 2.0}])
    logged.finish("summary.json", "metrics")
    said = capsys.readouterr().out
    assert said.count("Weights & Biases failed") == (where != "end")
    assert said.count("\n") == (where != "end")
    if where != "end":
        assert "Traceback" in (folder.path / "logs" / "train.log").read_text("utf-8")


def test_the_results_the_figures_and_the_page_come_last(folder, wandb):
    a_figure(folder, "curves", shows="curves over steps")
    a_figure(folder, "maps/head_1", shows="a map", caption="Head 1 looks back.")
    (folder.path / "report.html").write_text("<html></html>")
    content = {"metrics": {"nll": 1.5, "per_head": [1, 2]}, "samples": [], "speed": None}
    folder.write_json("summary.json", content | {"dataset": {"name": "grammar"}})
    logged = wandb_log.begin(folder, settings_of(), "pytorch")
    logged.log([{"kind": "train", "step": 7, "epoch": 1, "loss": 2.0}])
    logged.finish("summary.json", "metrics", "speed", "dataset", "absent")
    (run,) = wandb.runs
    assert run.summary == {"metrics/nll": 1.5, "dataset/name": "grammar"}
    assert run.rows[-1] == {
        "figures/curves": ("image", "curves.png", "curves over steps"),
        "figures/maps/head_1": ("image", "head_1.png", "Head 1 looks back."),
        "report": ("page", "report.html", False),
        "step": 7,
    }
    assert run.metrics == {"step": None, "*": "step"}
    assert run.is_finished
    assert wandb.times_ended == 1


def test_without_figures_none_are_sent(folder, wandb):
    a_figure(folder, "curves", shows="of an earlier run")
    folder.write_json("summary.json", {"metrics": {"nll": 1.5}})
    wandb_log.begin(folder, settings_of("--no_visualize"), "pytorch").finish("summary.json")
    (run,) = wandb.runs
    assert run.rows == []
    assert run.is_finished


def test_a_resumed_run_goes_on_as_the_same_one(folder, wandb):
    wandb_log.begin(folder, settings_of(), "pytorch")
    resumed = ResultsFolder.create(folder.path.parent, "pytorch", keep=True)
    wandb_log.begin(resumed, settings_of("--resume"), "pytorch")
    anew = ResultsFolder.create(folder.path.parent, "pytorch")
    wandb_log.begin(anew, settings_of(), "pytorch")
    ids = [run.options["id"] for run in wandb.runs]
    assert ids == [None, "new-id", None]
    assert [run.options["resume"] for run in wandb.runs] == [None, "allow", None]
    assert [run.options["name"] is None for run in wandb.runs] == [False, True, False]


def test_what_it_keeps_is_no_file_of_the_run(folder, wandb):
    wandb_log.begin(folder, settings_of(), "pytorch")
    (folder.path / "wandb" / "wandb.png").write_bytes(b"")
    folder.write_summary({})
    listed = json.loads((folder.path / "summary.json").read_text("utf-8"))["files"]
    assert listed == ["logs/train.log", "summary.json"]


@pytest.mark.parametrize("version", ["pytorch", "huggingface"])
def test_both_versions_send_the_lines_that_they_write(version, wandb, tmp_path):
    options = ["--version", version, "--wandb", *SMALL, "--output_dir", str(tmp_path)]
    assert main.main([*options, "--track_every", "2", "--no_visualize"]) == 0
    (run,) = wandb.runs
    folder = ResultsFolder(tmp_path / f"results_{version}")
    lines = folder.read_metrics()
    assert {line["kind"] for line in lines} == {"train", "eval", "probe"}
    rows = run.rows[: len(lines)]
    assert rows == [wandb_log.row_of(line) for line in lines]
    assert {type(value) for row in rows for value in row.values()} == {int, float}
    summary = json.loads((folder.path / "summary.json").read_text("utf-8"))
    for name, value in summary["metrics"].items():
        assert run.summary[f"metrics/{name}"] == value
    assert run.summary["dataset/train"] == 64
    assert run.options["job_type"] == version


def test_the_check_of_the_installation_sends_nothing(wandb, capsys, monkeypatch):
    monkeypatch.setattr("utils.selfcheck.run_selfcheck", lambda run: 0)
    assert main.main(["--version", "test", "--wandb"]) == 0
    assert "--wandb has no effect" in capsys.readouterr().out
    assert wandb.runs == []


# With the package itself, in processes of their own.


def environment_of(folder, **more):
    """As if ``folder`` were the home of a user who never used the package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    home = {"HOME": str(folder), "NETRC": str(folder / "netrc"), "PYTHONPATH": str(ROOT)}
    return kept | home | more


def python(folder, *arguments, code=0, **environment):
    """Run Python in ``folder``; returns what it printed."""
    answer = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment_of(folder, **environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == code, answer.stderr
    assert "Traceback" not in answer.stderr
    return answer.stdout


def run(folder, *options, **environment):
    """Run ``main.py`` in ``folder``; returns what it printed."""
    return python(folder, ROOT / "main.py", *options, **environment)


def logged_in(results):
    """(folder, records) of each run that the package left below a results folder."""
    for file in sorted(results.glob("wandb/*/*.wandb")):
        yield file.parent, list(records_of(file))


def records_of(file):
    """The records of a ``.wandb`` file: LevelDB's log format, behind a header of its own.

    Blocks of 32 KiB hold pieces of records: checksum, length, and whether the piece is a whole
    record (1), its first (2), a middle (3) or its last (4).
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data = file.read_bytes()
    assert data[:4] == b":W&B"
    place, record = 7, b""
    while place + 7 <= len(data):
        if 2**15 - place % 2**15 < 7:  # no room for a piece: filled up
            place += 2**15 - place % 2**15
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        assert kind in (1, 2, 3, 4)
        record = (b"" if kind <= 2 else record) + data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            found = Record()
            found.ParseFromString(record)
            yield found


def rows_in(records):
    """What was logged, by name; nested names are joined."""
    for record in records:
        if record.HasField("history"):
            items = record.history.item
            yield {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items
            }


def summary_in(records):
    """The summary at the end, by name."""
    updates = [record.summary for record in records if record.HasField("summary")]
    items = [item for update in updates for item in update.update]
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.mark.slow
def test_offline_a_run_leaves_its_metrics_and_figures(tmp_path):
    said = run(
        tmp_path, "--version", "huggingface", "--epochs", "1", "--train_size", "200",
        "--eval_size", "20", "--track_internals", "--wandb", "--wandb_project",
        "my-transformer-study", WANDB_MODE="offline",
    )  # fmt: skip
    assert len([line for line in said.splitlines() if "wandb" in line]) == 1
    results = tmp_path / "results_huggingface"
    ((folder, records),) = logged_in(results)
    (begun,) = [record.run for record in records if record.HasField("run")][:1]
    assert begun.project == "my-transformer-study"
    config = {item.key: item.value_json for item in begun.config.update}
    assert config["track_internals"] == "true"

    rows = list(rows_in(records))
    lines = ResultsFolder(results).read_metrics()
    for row, line in zip(rows, lines, strict=False):
        expected = wandb_log.row_of(line)
        assert {name: row[name] for name in expected} == pytest.approx(expected)
    assert (results / wandb_log.PAGE).exists()
    assert {name.split("/")[0] for row in rows for name in row if name[0] != "_"} == {
        "step", "epoch", "train", "eval", "probe", "figures",
"report",
    }  # fmt: skip

    summary = json.loads((results / "summary.json").read_text("utf-8"))
    final = summary_in(records)
    assert {name: final[f"metrics/{name}"] for name in summary["metrics"]} == summary["metrics"]
    assert not [name for name in summary["files"] if name.startswith("wandb")]
    shown = rows[-1]
    manifest = json.loads((results / "visualizations" / "manifest.json").read_text("utf-8"))
    assert len(manifest) >= 3
    for record in manifest:
        name = f"figures/{record['file'].removesuffix('.png')}"
        assert shown[f"{name}/_type"] == "image-file"
        assert shown[f"{name}/caption"] == record.get("caption", record["shows"])
        drawn = (results / "visualizations" / record["file"]).read_bytes()
        assert (folder / "files" / shown[f"{name}/path"]).read_bytes() == drawn
    assert [record for record in records if record.HasField("exit")][-1].exit.exit_code == 0


@pytest.mark.slow
def test_both_and_an_analysis_leave_a_run_each(tmp_path):
    said = run(tmp_path, "--version", "both", "--wandb", *SMALL)
    assert said.count("nobody is logged in") == 3
    for name, figure in (("pytorch", "qkv_evolution"), ("huggingface", "qkv/qkv_evolution"),
                         ("comparison", "parity")):  # fmt: skip
        ((_, records),) = logged_in(tmp_path / f"results_{name}")
        rows = list(rows_in(records))
        assert f"figures/{figure}/path" in rows[-1]
        assert len([row for row in rows if "train/loss" in row]) == 3 * (name != "comparison")
    assert "metrics/pytorch/eval_nll" in summary_in(records)  # the comparison's, the last
    text = ["--text", "The student bought a book."]
    run(tmp_path, "--version", "analysis", "--wandb", *text)
    ((_, records),) = logged_in(tmp_path / "results_analysis")
    assert "figures/logit_lens/path" in list(rows_in(records))[-1]
    assert "alignment/best/aer" in summary_in(records)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_under_its_id(tmp_path):
    code = (
        "import os, signal, sys, main\n"
        "from utils.recorder import Recorder\n"
        "taken = Recorder.step\n"
        "def step(self, line):\n"
        "    if line['step'] == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return taken(self, line)\n"
        "Recorder.step = step\n"
        "sys.exit(main.main(sys.argv[1:]))"
    )
    options = ["--version", "pytorch", "--wandb", "--no_visualize", *SMALL]
    python(tmp_path, "-c", code, *options, code=130, WANDB_MODE="offline")
    run(tmp_path, "--version", "pytorch", "--resume", "--wandb", "--no_visualize",
        WANDB_MODE="offline")  # fmt: skip
    (_, before), (_, after) = logged_in(tmp_path / "results_pytorch")
    ids = {record.run.run_id for record in [*before, *after] if record.HasField("run")}
    assert ids == {(tmp_path / "results_pytorch" / "wandb" / "run_id").read_text().strip()}
    steps = [row["step"] for row in rows_in([*before, *after]) if "train/loss" in row]
    assert steps == [1, 2, 3]


@pytest.mark.slow
def test_a_run_outlives_the_process_that_logs_it(tmp_path):
    code = (
        "import sys, main, psutil\n"
        "export = main.export\n"
        "def killing(*arguments):\n"
        "    for child in psutil.Process().children():\n"
        "        if 'wandb-core' in child.name(): child.kill(), child.wait()\n"
        "    export(*arguments)\n"  # imports transformers, which the package follows
        "main.export = killing\n"
        "sys.exit(main.main(sys.argv[1:]))"
    )
    options = ["--version", "pytorch", "--wandb", "--no_visualize", *SMALL]
    said = python(tmp_path, "-c", code, *options)
    assert said.count("Weights & Biases failed") == 1
    assert "Best model" in said
