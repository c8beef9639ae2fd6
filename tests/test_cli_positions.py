"""The commands `jaxzero data convert` and `jaxzero data shuffle`."""

import pytest

pytest.importorskip("pyarrow")
from test_data_convert import folder_of, random_games

import envs
from jaxzero.cli.app import main
from jaxzero.cli.positions import bytes_of
from jaxzero.data import positions
from jaxzero.messages import ConfigError


def test_games_become_shuffled_positions(tmp_path, capsys):
    env = envs.make("tic_tac_toe")
    source, out, mixed = folder_of(tmp_path / "games", env, random_games(env, 9)), tmp_path / "out", tmp_path / "mixed"
    assert main(["data", "convert", str(source), "--out", str(out), "--policy", "soft:0.1"]) == 0
    line = capsys.readouterr().out
    count = positions.open_folder(out).total
    assert line.startswith(f"{out}: {count} positions of 9 games; ")
    assert main(["data", "shuffle", str(out), "--out", str(mixed), "--seed", "3", "--remove"]) == 0
    assert capsys.readouterr().out.startswith(f"{mixed}: {count} positions in 1 chunks, 0.00 GB; ")
    assert positions.open_folder(mixed).made["shuffled"] == 3
    assert main(["data", "verify", str(mixed)]) == 0
    assert capsys.readouterr().out == f"{mixed}: 1 chunks, {count} positions, all sound\n"
    positions.chunk_path(mixed, 0).unlink()
    assert main(["data", "verify", str(mixed)]) == 1
    assert capsys.readouterr().out == f"{positions.chunk_path(mixed, 0)}: is missing\n"
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["convert", "nothing", "--out", "x"], "nothing: no folder of games"),
        (["convert", "--out", "x"], "folders: none given"),
        (["convert", "nothing", "--out", "x", "--label", "win"], "label: 'win' is none of outcome"),
        (["shuffle", "nothing", "--out", "x"], "nothing: no folder of positions"),
        (["shuffle", "--out", "x"], "folders: none given"),
        (["shuffle", "nothing", "--out", "x", "--memory", "much"], "--memory: 'much' is no size"),
        (["shuffle", "nothing", "--out", "x", "--memory", "1MiB"], "memory: 1048576 bytes are too few"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, words, problem):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {problem}")
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_sizes():
    assert [bytes_of(text) for text in ("1GiB", "1.5kB", "64MiB", "7", "2G")] == [2**30, 1500, 2**26, 7, 2 * 10**9]
    with pytest.raises(ConfigError):
        bytes_of("-1GiB")
