"""Work in threads, in order and never far ahead of the caller."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import islice, repeat
from threading import Event, Lock
from typing import Any, Generic, TypeVar

X = TypeVar("X")
Y = TypeVar("Y")


def in_threads(
    function: Callable[[X], Y], items: Iterable[X], workers: int = 1, ahead: int = 2
) -> Generator[Y, None, None]:
    """Call a function with each item in threads, ahead of the caller, and keep the order.

    The items are drawn in the caller's thread, at most `ahead` more than results were asked for.

    Args:
        function: called in the threads; this pays off if it reads files or releases Python's global
            lock.
        items: what to call it with.
        workers: number of threads.
        ahead: number of results that may be waiting or in progress.

    Yields:
        `function(item)` of each item, in order.

    Raises:
        Exception: whatever drawing an item or a call raises, when its turn has come. Then, or when
            no more results are wanted, waiting calls are dropped.
        RuntimeError: results are asked for in a process that was forked after the first one.
    """
    process = os.getpid()
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
            except Exception as error:  # the results of earlier items come first
                failure = error
                break
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield _result(waiting.popleft(), process)
        while waiting:
            yield _result(waiting.popleft(), process)
        if failure is not None:
            raise failure
    finally:
        if os.getpid() == process:  # else its threads do not exist
            pool.shutdown(wait=True, cancel_futures=True)


def _result(future: Future[Y], process: int) -> Y:
    """Return the result of a call in a thread of that process, without waiting in another one."""
    if os.getpid() != process:
        raise RuntimeError(
            "this iterator was begun in another process, whose threads do not exist in this one, "
            "which was forked from it; begin a new one here"
        )
    return future.result()


def as_they_end(
    function: Callable[[X], Y], items: Iterable[X], workers: int, stopped: Event
) -> Generator[Y, None, None]:
    """Call a function with each item in threads, several at a time, and tell what comes first.

    Args:
        function: called in the threads.
        items: what to call it with.
        workers: number of threads.
        stopped: set when no more results are wanted, so that calls can end that are in progress.

    Yields:
        The results, as the calls end.

    Raises:
        Exception: whatever drawing an item or a call raises.
    """
    source, running = iter(items), set[Future[Y]]()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            while True:
                for item in islice(source, workers - len(running)):
                    running.add(pool.submit(function, item))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BaseException:  # the caller's end too
            stopped.set()
            raise


def drawn_ahead(items: Iterable[X], ahead: int) -> Generator[X, None, None]:
    """Draw items in another thread, ahead of the caller.

    Args:
        items: drawn one by one; closed when no more are wanted.
        ahead: number of items that may be waiting.

    Yields:
        The same items, in order.

    Raises:
        Exception: whatever drawing an item raises, when its turn has come.
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


class FreshLock:
    """A lock; its copy, also in another process, is a new one that nobody holds."""

    def __init__(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[FreshLock], tuple[()]]:
        return type(self), ()


class BackgroundWorker(Generic[X]):
    """Calls a function with one item after the other in a thread of its own.

    It is used in a `with` statement, which waits at its end until all items are done. What a call
    raises is raised by a later `put` or at the end of the block. If the block itself fails, waiting
    items are dropped.

    Args:
        function: called with each item, in order.
        waiting: number of items that may wait before `put` blocks.
    """

    def __init__(self, function: Callable[[X], object], waiting: int) -> None:
        self._function = function
        self._waiting = waiting
        self._calls: deque[Future[object]] = deque()

    def __enter__(self) -> BackgroundWorker[X]:
        self._pool = ThreadPoolExecutor(max_workers=1)
        return self

    def put(self, item: X) -> None:
        """Add an item; block while too many are waiting."""
        self._calls.append(self._pool.submit(self._function, item))
        while len(self._calls) > self._waiting or (self._calls and self._calls[0].done()):
            self._calls.popleft().result()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._calls:
                self._calls.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
