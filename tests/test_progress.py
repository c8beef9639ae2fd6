"""Progress on the terminal and in pipes."""

import io

import pytest

from jaxzero.runs.progress import Progress, short_number


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_plain_rows_have_no_escapes_and_a_sane_cadence(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    stream, clock = io.StringIO(), Clock()
    with Progress(100, every=10, stream=stream, clock=clock) as progress:
        for iteration in range(1, 101):
            clock.now += 1
            row = {"iteration": iteration, "loss": 0.5, "positions_per_s": 12345.0, "value_loss": None}
            progress.update(row | ({"eval/minimax:2/score": 0.25} if iteration == 45 else {}))
        progress.message("[done]")
    *lines, last = stream.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == [f"{i}/100" for i in (1, 11, 21, 31, 41, 45, 55, 65, 75, 85, 95, 100)]
    assert ["minimax:2=25%" in line for line in lines].index(True) == 5
    assert "12.3k positions/s  loss 0.500" in lines[0]
    assert last == "[done]"
    assert "\x1b" not in stream.getvalue()


def test_eta_after_resume_counts_from_there_and_skips_the_compile():
    clock = Clock()
    progress = Progress(200, stream=io.StringIO(), clock=clock)
    clock.now += 50  # compile and one iteration
    progress.update({"iteration": 101})
    assert progress.eta() is None
    for iteration in range(102, 111):
        clock.now += 2
        progress.update({"iteration": iteration})
    assert progress.eta() == 2 * 90
    clock.now += 1
    assert progress.eta() == 2 * 90 - 1


@pytest.mark.parametrize("width", [60, 200])
def test_live_lines_fit_and_the_last_scores_stay(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    stream, clock = Terminal(), Clock()
    with Progress(40_000, stream=stream, clock=clock) as progress:
        progress.update({"iteration": 1, "eval/random/score": 1.0, "eval/minimax:2/score": 0.5})
        clock.now = 4e5
        progress.update({"iteration": 399, "positions_per_s": 1e6, "loss": 9.1, "policy_loss": 7.0, "value_loss": 2.1})
        progress.message("[b]saved")
    screen = stream.getvalue().split("[b]saved")[-1]
    lines = [line.rstrip("\r") for line in screen.split("\x1b[?25h")[0].splitlines()]
    lines = [line.split("\x1b[2K")[-1] for line in lines]
    assert max(map(len, lines)) <= width
    assert "399/40000" in screen
    assert "random=100% minimax:2=50%" in screen
    assert "1M positions/s  loss 9.100  policy 7.000  value 2.100" in lines


def test_live_display_restores_the_cursor_on_ctrl_c(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(10, stream=stream):
        raise KeyboardInterrupt
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_a_reader_that_went_away_does_not_stop_the_run():
    class Closed(io.StringIO):
        def write(self, *_):
            raise BrokenPipeError

    with Progress(10, stream=Closed()) as progress:
        progress.update({"iteration": 1})
        progress.message("hello")


@pytest.mark.parametrize(
    ("number", "text"), [(0.0, "0"), (999.4, "999"), (999.9, "1k"), (12345, "12.3k"), (999_999, "1M")]
)
def test_short_number(number, text):
    assert short_number(number) == text
