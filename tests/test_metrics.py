"""Rows, sinks and the log of a run, without any training."""

import errno
import json
import logging
import math
import os
import struct
import sys
import threading
import unittest.mock

import numpy as np
import pytest
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from jaxzero import files
from jaxzero.messages import ConfigError
from jaxzero.runs import metrics, sinks, table

# ---- metrics.jsonl


def write(folder, rows, sinks=()):
    with metrics.MetricsLog(folder, sinks) as log:
        for row in rows:
            log.write(row)


def test_a_row_is_on_disk_when_write_returns(tmp_path):
    log = metrics.MetricsLog(tmp_path, sinks=())
    log.write({"iteration": 1, "loss": np.float32(0.5), "own/key": 7, "note": "text"})
    assert metrics.read(tmp_path) == [{"iteration": 1, "loss": 0.5, "own/key": 7, "note": "text"}]
    log.close()


def test_torn_last_line_is_left_out_and_cut(tmp_path):
    write(tmp_path, [{"iteration": 1}, {"iteration": 2}])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"iteration": 3, "loss": 0.\xc3')
    assert metrics.read(tmp_path) == [{"iteration": 1}, {"iteration": 2}]
    metrics.cut_back(tmp_path, 2)
    write(tmp_path, [{"iteration": 3}])
    assert path.read_text() == '{"iteration": 1}\n{"iteration": 2}\n{"iteration": 3}\n'


NO_ROWS = (
    *("null", "[]", "3", '"iteration"', "{}", "{", "", "\0", '{"loss": 1}', '{"iteration": "1"}', '{"iteration": 1.0}'),
    *('{"iteration": -1}', '{"iteration": 0}', '{"iteration": true}', '{"iteration": 1e400}', '{"iteration": null}'),
    *('{"iteration": 1, "loss": NaN}', '{"iteration": ' + "9" * 5000 + "}", '{"iteration": 1, "x":' + "[" * 100_000),
)


def test_what_is_no_row_is_skipped_and_told_once(tmp_path):
    """In every place, and never a sound row."""
    lines = [line for number, bad in enumerate(NO_ROWS, 1) for line in (bad, json.dumps({"iteration": number}))]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    rows, skipped = metrics.examine(tmp_path)
    assert rows == [{"iteration": number} for number in range(1, len(NO_ROWS) + 1)]
    assert (
        f"{len(NO_ROWS)} of {2 * len(NO_ROWS)} lines skipped, as they are no rows (line 1: it is not an obj" in skipped
    )
    assert len(skipped) < 300
    assert "\n" not in skipped
    (tmp_path / "metrics.jsonl").write_bytes(b'{"iteration": 1}\n{"iteration": 2, "x": "\xff"}\n{"iteration": 3}\n')
    assert metrics.read(tmp_path) == [{"iteration": 1}, {"iteration": 3}]
    assert "line 2: not UTF-8" in metrics.examine(tmp_path)[1]


def test_a_record_that_is_no_file_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")  # would be waited for
    for use in (metrics.read, lambda folder: metrics.cut_back(folder, 3)):
        with pytest.raises(ConfigError, match="is not a file; move it aside"):
            use(tmp_path)


TOTALS = {"seconds": 12.5, "games": 40, "positions": 800, "updates": 16}  # after 8 iterations


def full_row(i, span=2):
    """Of a run of 8 iterations, logged every second one."""
    return {"iteration": i, "span": span, **{name: total * i / 8 for name, total in TOTALS.items()}, "loss": 1 / i}


@pytest.mark.parametrize(
    ("iterations", "told"),
    [
        ((2, 4, 6, 8), ""),
        ((2, 4, 6, 8, 10, 12), ""),
        ((2, 6, 8), "rows of iterations 3-4 are missing"),
        ((4, 6, 8), "rows of iterations 1-2 are missing"),
        ((2, 4), "rows of iterations 5-8 are missing"),
        ((2, 6), "rows of iterations 3-4, 7-8 are missing"),
        ((), "rows of iterations 1-8 are missing"),
        ((2, 4, 4, 6, 8), "doubled rows of iterations 4 dropped"),
        ((4, 8, 2, 6, 4, 2), "doubled rows of iterations 2, 4 dropped"),
        ((8, 6, 4, 2), ""),
    ],
)
def test_a_resumed_run_tells_of_rows_that_are_missing_or_doubled(tmp_path, iterations, told):
    write(tmp_path, map(full_row, iterations))
    before = (tmp_path / "metrics.jsonl").read_text()
    said = metrics.cut_back(tmp_path, 8, TOTALS, every=2)
    assert told in said
    assert bool(told) == bool(said)
    assert metrics.read(tmp_path) == [full_row(i) for i in sorted({i for i in iterations if i <= 8})]
    if "dropped" in told:
        assert (tmp_path / "metrics.jsonl.old").read_text() == before
    # What was mended is not told again; what is missing is.
    again = metrics.cut_back(tmp_path, 8, TOTALS, every=2)
    assert bool(again) == ("missing" in told)


def test_rows_of_other_runs_and_of_earlier_versions(tmp_path):
    """A row tells how many iterations it covers, so the interval may have changed; older rows do not."""
    own = [full_row(1, 1), full_row(2, 1), full_row(8, 6)]
    larger, faster = full_row(3) | {"positions": 3000.0}, full_row(8) | {"seconds": 9.0}
    write(tmp_path, [own[0], larger, own[1], own[2] | {"games": 39}, own[2], faster])
    assert "3 rows that do not fit the checkpoint dropped" in metrics.cut_back(tmp_path, 8, TOTALS, every=2)
    assert metrics.read(tmp_path) == own
    old = [{"iteration": i} for i in (2, 4, 8)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    assert "rows of iterations 5-6 are missing" in metrics.cut_back(tmp_path, 8, TOTALS, every=2)
    assert metrics.cut_back(tmp_path, 8, TOTALS, every=4) == ""


def test_without_a_checkpoint_nothing_is_lost(tmp_path):
    """Unless there has never been one: a run that was killed at its beginning is repeated."""
    write(tmp_path, [full_row(2), full_row(4) | {"checkpoint_s": 0.1}])
    assert "there is no checkpoint of its 4 iterations: starting anew" in metrics.cut_back(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert metrics.read(tmp_path) == []
    write(tmp_path, [full_row(i) | {"checkpoint_s": 0.1} for i in (2, 4)])
    (tmp_path / "evaluations" / "iteration_4").mkdir(parents=True)
    assert "there is no checkpoint of its 4 iterations: starting anew" in metrics.cut_back(tmp_path, 0)
    assert metrics.read(tmp_path) == []
    assert len((tmp_path / "metrics.jsonl.old").read_text().splitlines()) == 2
    assert (tmp_path / "evaluations.old" / "iteration_4").is_dir()


def test_nan_and_infinity_are_null(tmp_path):
    write(tmp_path, [{"iteration": 1, "loss": math.nan, "value_loss": math.inf, "lr": 0.1}])

    def refuse(constant):
        raise AssertionError(constant)

    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=refuse) == {"iteration": 1, "loss": None, "value_loss": None, "lr": 0.1}


def test_cut_back_keeps_exactly_what_the_checkpoint_knows(tmp_path):
    rows = [{"iteration": i, "loss": 1 / i} for i in range(1, 12)]
    write(tmp_path, rows)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    for name in ("iteration_4", "iteration_8", "iteration_9", "iteration_10", "best"):
        (tmp_path / "evaluations" / name).mkdir(parents=True)
    metrics.cut_back(tmp_path, 8)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(lines[:8])
    assert {path.name for path in (tmp_path / "evaluations").iterdir()} == {"iteration_4", "iteration_8", "best"}
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "evaluations"}


def test_interrupted_cut_back_leaves_the_rows(tmp_path, monkeypatch):
    write(tmp_path, [{"iteration": 1}, {"iteration": 2}])

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        metrics.cut_back(tmp_path, 1)
    assert metrics.read(tmp_path) == [{"iteration": 1}, {"iteration": 2}]


def test_cut_back_of_a_run_without_rows(tmp_path):
    metrics.cut_back(tmp_path, 5)
    assert metrics.read(tmp_path) == []


# ---- The table


def test_every_number_has_a_line():
    assert table.find("policy_loss") == table.Metric("loss", "policy")
    assert table.text("eval/minimax:2/score") == "minimax:2"
    assert (table.text("game_length"), table.text("positions_per_s")) == ("game length, plies", "positions/s")
    assert (table.find("new"), table.text("new"), table.tag("new")) == (None, "new", "other/new")


# ---- TensorBoard


def events(folder):
    for path in sorted((folder / "tensorboard").iterdir()):
        data, start = path.read_bytes(), 0
        while start < len(data):  # a record: length u64, its checksum u32, payload, its checksum u32
            (size,) = struct.unpack_from("<Q", data, start)
            yield event_pb2.Event.FromString(data[start + 12 : start + 12 + size])  # pyright: ignore[reportAttributeAccessIssue]
            start += size + 16


def test_tensorboard_scalars_are_grouped_and_purged_on_resume(tmp_path):
    row = {"loss": 1.5, "positions_per_s": 10, "eval/random/score": 0.75, "new": 3, "note": "x"}
    write(tmp_path, [{"iteration": i, **row} for i in (1, 2, 3)], sinks=["tensorboard"])
    metrics.cut_back(tmp_path, 2)
    write(tmp_path, [{"iteration": 3, "loss": 2.0}], sinks=["tensorboard"])
    scalars, purged = [], []
    for event in events(tmp_path):
        scalars += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        if event.session_log.status:
            purged.append(event.step)
    tags = [("loss/loss", 1.5), ("speed/positions_per_s", 10), ("eval/random/score", 0.75), ("other/new", 3)]
    assert scalars == [(i, *tag) for i in (1, 2, 3) for tag in tags] + [(3, "loss/loss", 2.0)]
    assert purged == [0, 3]


def test_events_that_cannot_be_written_are_an_error_at_once(tmp_path, monkeypatch):
    """A thread that writes them would end, and whoever fills its queue would wait for ever."""
    with metrics.MetricsLog(tmp_path) as log:
        log.write({"iteration": 1, "loss": 1.0})
        full = OSError(errno.ENOSPC, "full")
        monkeypatch.setattr(EventsWriter, "write_event", unittest.mock.Mock(side_effect=full))
        with pytest.raises(OSError, match="full"):
            log.write({"iteration": 2, "loss": 1.0})
    assert not [t for t in threading.enumerate() if "EventLogger" in type(t).__name__]


class Lines:
    """A sink from outside: a file of names and values."""

    def __init__(self, folder, begin):
        self.file = (folder / "lines.txt").open("a")
        print("from", begin, file=self.file)

    def write(self, row):
        print(row, file=self.file)

    def close(self):
        self.file.close()


def test_a_new_sink_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sinks.SINKS, "lines", Lines)
    write(tmp_path, [{"iteration": 1}, {"iteration": 2, "loss": 1.0}], ["lines"])
    write(tmp_path, [{"iteration": 3}], ["lines"])
    lines = ["from 0", "{'iteration': 1}", "{'iteration': 2, 'loss': 1.0}", "from 3", "{'iteration': 3}"]
    assert (tmp_path / "lines.txt").read_text().splitlines() == lines


# ---- run.log


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    yield metrics.open_log(tmp_path)
    for handler in list(logging.getLogger("jaxzero").handlers):
        logging.getLogger("jaxzero").removeHandler(handler)
        handler.close()


def test_log_has_times_and_the_terminal_nothing(log, tmp_path, capsys):
    logging.getLogger("jaxzero.training.train").info("saved %d", 7)
    assert capsys.readouterr() == ("", "")
    line = (tmp_path / "run.log").read_text()
    assert line.startswith("20")
    assert line.endswith("INFO jaxzero.training.train: saved 7\n")


def test_uncaught_exceptions_go_to_the_log_with_traceback(log, tmp_path, capsys):
    def fail():
        raise ZeroDivisionError("by purpose")

    try:
        fail()
    except ZeroDivisionError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=fail, name="saver")
    thread.start()
    thread.join()
    text = (tmp_path / "run.log").read_text()
    assert text.count("Traceback (most recent call last)") == text.count("in fail") == 2
    assert "in thread saver" in text
    terminal = capsys.readouterr().err
    assert "Traceback (most" not in terminal
    assert terminal.count("ZeroDivisionError: by purpose") == 2


def test_second_run_in_a_process_has_its_own_log(log, tmp_path):
    metrics.open_log(tmp_path / "second").info("hello")
    assert (tmp_path / "run.log").read_text() == ""
    assert (tmp_path / "second" / "run.log").read_text().count("hello") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full is one of Linux")
def test_log_on_a_full_disk_is_silent(log, tmp_path, capfd):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "run.log").symlink_to("/dev/full")
    full = metrics.open_log(tmp_path / "full")
    full.info("lost")
    full.error("lost", exc_info=ValueError("too"))
    metrics.open_log(tmp_path)  # closes the one before
    assert capfd.readouterr() == ("", "")


def test_what_python_ignores_goes_to_the_log_alone(log, tmp_path, capfd):
    class Failing:
        def __del__(self):
            raise ZeroDivisionError("by purpose")

    Failing()
    text = (tmp_path / "run.log").read_text()
    assert text.count("ZeroDivisionError: by purpose") == 1
    assert "Traceback" in text
    assert capfd.readouterr() == ("", "")
