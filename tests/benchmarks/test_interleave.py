from pathlib import Path

import interleave
import pytest
from interleave import Worker, in_turns, timed

SERVER = """
import sys
sys.path.insert(0, {folder!r})
from interleave import serve
def prepare():
    print("a library says hello")
    def answer(request):
        print("and chatters")
        if request == "fail":
            raise ValueError("broken side")
        return [request, sys.argv[1:]]
    return answer
serve(prepare)
"""


@pytest.fixture
def script(tmp_path):
    file = tmp_path / "side.py"
    file.write_text(SERVER.format(folder=str(Path(interleave.__file__).parent)))
    return file


def test_a_worker_answers_whatever_libraries_print_and_ends_with_the_error_of_its_side(script):
    worker = Worker(script, ["--serve", "x"])
    assert worker({"n": 3}) == [{"n": 3}, ["--serve", "x"]]
    assert worker(4) == [4, ["--serve", "x"]]
    worker.close()
    assert worker.process.returncode == 0
    worker = Worker(script, [])
    with pytest.raises(SystemExit, match="broken side"):
        worker("fail")


def test_sides_take_turns_and_the_first_rounds_do_not_count():
    calls = []

    def side(name):
        def run() -> float:
            calls.append(name)
            return float(len(calls))

        return run

    times = in_turns({"a": side("a"), "b": side("b")}, repeats=2, warmup=1)
    assert calls == ["a", "b"] * 3
    assert times == {"a": [3, 5], "b": [4, 6]}
    assert timed(lambda: calls.append("once"), pause=0)() >= 0
    assert calls[6:] == ["once"]
