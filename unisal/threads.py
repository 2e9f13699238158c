"""Work in threads, in order and never far ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import repeat
from typing import Any, Generic, TypeVar

X = TypeVar("X")
Y = TypeVar("Y")


def in_threads(
    function: Callable[[X], Y], items: Iterable[X], workers: int = 1, ahead: int = 2
) -> Generator[Y, None, None]:
    """-> `function(item)` of each item in order, computed by threads in advance.

    The items are taken in the caller's thread, at most `ahead` more than results were asked
    for. What an item or a call raises is raised in its turn; then, or when no more results are
    wanted, calls that wait are given up.

    Args:
        function: called in threads; gains where it reads files or lets go of Python's lock.
        workers: number of threads.
        ahead: how many results may wait or be under way.
    """
    pool = ThreadPoolExecutor(max_workers=workers)
    waiting: deque[Future[Y]] = deque()
    failure: BaseException | None = None
    source = iter(items)
    try:
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception as error:  # results of the items before it come first
                failure = error
                break
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def drawn_ahead(items: Iterable[X], ahead: int) -> Generator[X, None, None]:
    """-> the same items, which another thread draws, up to `ahead` of them in advance.

    What the items raise is raised in its turn. When no more are wanted, the source is closed.
    """
    source, end = iter(items), object()
    draw: Callable[[None], Any] = lambda _: next(source, end)  # noqa: E731
    try:
        with closing(in_threads(draw, repeat(None), ahead=ahead)) as drawn:
            for item in drawn:
                if item is end:
                    return
                yield item
    finally:
        if isinstance(source, Generator):
            source.close()


class Behind(Generic[X]):
    """Hands items to a function that a thread of its own calls with them, in order.

    Used in a `with` statement: at its end all is done. What a call raises is raised by a later
    `put` or by the end. Where the block itself fails, items that still wait are given up.

    Args:
        function: called with one item after the other.
        waiting: how many items may wait; then `put` does so too.
    """

    def __init__(self, function: Callable[[X], object], waiting: int) -> None:
        self._function = function
        self._waiting = waiting
        self._calls: deque[Future[object]] = deque()

    def __enter__(self) -> Behind[X]:
        self._pool = ThreadPoolExecutor(max_workers=1)
        return self

    def put(self, item: X) -> None:
        """Add an item."""
        self._calls.append(self._pool.submit(self._function, item))
        while len(self._calls) > self._waiting or (self._calls and self._calls[0].done()):
            self._calls.popleft().result()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._calls:
                self._calls.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
