"""Files that are read with suspicion, and written whole or not at all."""

import json
import os
import threading
from pathlib import Path

import pytest

from jaxzero import files
from jaxzero.messages import ConfigError


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": 1}{', "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"\0" * 100, "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": NaN}', "not finite"),
        (b'{"a": -Infinity}', "not finite"),
        (b'{"a": 1e400}', "not finite"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "whole number of 10000 digits"),
        (b'{"a": 9223372036854775808}', "whole number of 19 digits"),
        (b'{"a": "\\ud800"}', "not UTF-8"),
        (b"null", "it is not an object: None"),
        (b"[]", "it is not an object"),
        (b"{}", "it lacks ['a']"),
        (b'{"a": "1"}', "a is not a number: 1"),
        (b'{"a": true}', "a is not a number: True"),
        (b'{"a": 1, "b": 0}', "b is not a list: 0"),
        (b'{"a": 1, "b": [[1, 2]]}', "b[0][1] is not text: 2"),
        (b'{"a": 1, "b": [[1]]}', "b[0] is not a list of 2"),
        (b'{"a": 1, "b": [[1, "' + b"x" * 10_000 + b'", 3]]}', "b[0] is not a list of 2"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes, reason: str):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        files.read_json(path, {"a": float, "b?": [(int, str)]})
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot be read (")
    assert reason in message
    assert len(message) < 300 + len(str(path))
    assert "\n" not in message


def test_a_sound_file_is_read(tmp_path: Path):
    path = tmp_path / "x.json"
    assert files.read_json(path, {}) is None
    value = {"a": 1, "b": [[1, "ü\N{GRINNING FACE}"]], "c": {"d": -0.5e-3}, "more": None}
    for ascii_only in (True, False):
        path.write_text(json.dumps(value, ensure_ascii=ascii_only), encoding="utf-8")
        assert files.read_json(path, {"a": float, "b?": [(int, str)], "c": {str: float}}) == value


def other_things(folder: Path) -> list[Path]:
    """What is no file."""
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "file").write_text("")
    return [folder / "folder", folder / "pipe", folder / "loop", folder / "file" / "below", folder / ("x" * 300)]


def test_what_is_no_file_is_refused(tmp_path: Path):
    for path in other_things(tmp_path):
        with pytest.raises(ConfigError, match="move it aside"):
            files.read(path)
        with pytest.raises(ConfigError, match="move it aside"):
            files.append(path, "line\n")
        for overwrite in (False, True):
            with pytest.raises(ConfigError, match=r"^record: "):
                files.check_target(path, "record", overwrite)
    assert not list(tmp_path.glob(".*"))


def test_a_large_file_is_refused(tmp_path: Path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="larger than 64 MiB"):
        files.read(tmp_path / "large")


def test_a_target_is_left_as_it_was(tmp_path: Path):
    path = tmp_path / "x"
    files.check_target(path, "record", overwrite=False)
    assert not list(tmp_path.iterdir())
    path.write_text("before")
    with pytest.raises(ConfigError, match="exists; choose another name or give --overwrite"):
        files.check_target(path, "record", overwrite=False)
    files.check_target(path, "record", overwrite=True)
    assert [(each, each.read_text()) for each in tmp_path.iterdir()] == [(path, "before")]
    with pytest.raises(ConfigError, match="choose another --file"):
        files.check_target(tmp_path / "none" / "x", "--file")


def test_lines_are_added_whole(tmp_path: Path):
    path = tmp_path / "x"
    assert not files.append(path, "1\n", "head\n")
    assert not files.append(path, "2\n", "head\n")
    with path.open("a") as file:
        file.write("to")
    assert files.append(path, "3\n", "head\n")
    assert path.read_text() == "head\n1\n2\nto\n3\n"


def test_a_lock_holds_off_others(tmp_path: Path):
    path = tmp_path / "x"
    path.write_text("0")

    def count() -> None:
        for _ in range(100):
            with files.locked(tmp_path / ".lock"):
                files.write(path, str(int(path.read_text()) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() == "400"


def test_nothing_is_lost_by_setting_aside(tmp_path: Path):
    for number in range(3):
        (tmp_path / "x").write_text(str(number))
        (tmp_path / "x").rename(files.aside(tmp_path / "x"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "x.old": "0",
        "x.old-2": "1",
        "x.old-3": "2",
    }
