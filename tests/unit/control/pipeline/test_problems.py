from __future__ import annotations

from kvproxy.control.pipeline.outcome import Notice
from kvproxy.control.pipeline.problems import ProblemBook
from kvproxy.model.problem import Problem

ONE, TWO = Problem(message="one"), Problem(message="two")


def test_tells_what_came_and_what_went_with_its_time() -> None:
    book = ProblemBook("file")
    book.replace("a", (ONE,), 1.0)
    assert book.drain() == ((Notice("file", ONE, 1.0),), ())
    book.replace("a", (ONE, TWO), 2.0)
    assert book.drain() == ((Notice("file", TWO, 2.0),), ())
    assert list(book) == [Notice("file", ONE, 1.0), Notice("file", TWO, 2.0)]
    book.replace("a", (TWO,), 3.0)
    assert book.drain() == ((), (Notice("file", ONE, 1.0),))
    assert book.of("a") == (TWO,)
    book.replace("a", (), 4.0)
    assert book.drain() == ((), (Notice("file", TWO, 2.0),))
    assert list(book) == []
    assert book.of("a") == ()


def test_what_came_and_went_between_two_looks_is_not_told() -> None:
    book = ProblemBook("file")
    book.replace("a", (ONE,), 1.0)
    book.replace("a", (), 2.0)
    assert book.drain() == ((), ())
