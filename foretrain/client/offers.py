"""Each call is written once, as a coroutine; a blocking client answers it, an awaiting client hands it on.

Typed without a second copy: an Offer knows the call's parameters and result, and what reading it from a
client gives depends on the client's kind.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from foretrain.client.wire import AwaitingWire, BlockingWire, Wire

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """A client whose calls return when they are done."""

    _wire: BlockingWire


class Awaiting:
    """A client whose calls are awaited."""

    _wire: AwaitingWire


class Offer(Generic[P, T]):
    """A call with one result."""

    def __init__(self, call: Callable[Concatenate[Wire, P], Coroutine[Any, Any, T]]) -> None:
        self._call = call
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Blocking | Awaiting | None, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self._call)
        def bound(*args: P.args, **kwargs: P.kwargs) -> T | Coroutine[Any, Any, T]:
            coroutine = self._call(client._wire, *args, **kwargs)  # noqa: SLF001  # ours, of this package
            return finish(coroutine) if isinstance(client, Blocking) else coroutine

        return bound


class Listing(Generic[P, T]):
    """A call with many results, one after the other."""

    def __init__(self, call: Callable[Concatenate[Wire, P], AsyncIterator[T]]) -> None:
        self._call = call
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: Awaiting, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: Blocking | Awaiting | None, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self._call)
        def bound(*args: P.args, **kwargs: P.kwargs) -> Iterator[T] | AsyncIterator[T]:
            items = self._call(client._wire, *args, **kwargs)  # noqa: SLF001  # ours, of this package
            return finish_each(items) if isinstance(client, Blocking) else items

        return bound


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Its result. Over a BlockingWire nothing suspends, so that no event loop is needed."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a call over a blocking wire has suspended")


def finish_each(items: AsyncIterator[T]) -> Iterator[T]:
    """Its items, each when it is asked for; whoever stops early leaves nothing open."""
    try:
        while True:
            try:
                item = finish(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        finish(_close(items))


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


async def _close(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
