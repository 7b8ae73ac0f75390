"""Many calls of one task: checked, cut into chunks, and the jobs that became of them. Knows no task and no store."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from litequeue.core.budget import BUDGET
from litequeue.core.interruptible import interruptible
from litequeue.core.records import NewJob, as_shown
from litequeue.core.slices import in_slices
from litequeue.core.warn import warn_caller
from litequeue.errors import JobCancelled, JobTimeout, PartlyEnqueued, PayloadTooLarge
from litequeue.job import Job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from litequeue.core.engine import Submitted
    from litequeue.core.source import Source
    from litequeue.stream import Values

R = TypeVar("R")

Encoded = bytes | tuple[bytes, str]
T = TypeVar("T")
GivenCall = tuple[Any, ...] | Mapping[str, Any]

MANY = 10_000  # calls: so many in one transaction keep other writers waiting for the sync and 20 ms
LARGE_PAYLOAD = 64 * 1024


def checked_size(payload: bytes, task: str, limit: int) -> bytes:
    """Refuse the arguments of a call that take more bytes than the limit, and warn of large ones."""
    size = len(payload)
    if size > limit:
        raise PayloadTooLarge(
            f"the arguments of {task} take {size:,} bytes, more than max_payload={limit:,}; "
            f"store the data elsewhere and pass an id or a path"
        )
    if size > LARGE_PAYLOAD:
        warn_caller(f"the arguments of {task} take {size:,} bytes; pass an id or a path instead of the data")
    return payload


def checked_chunk(chunk: int | None) -> int | None:
    """Check the option `chunk=`."""
    if chunk is not None and (isinstance(chunk, bool) or not isinstance(chunk, int) or chunk <= 0):
        raise ValueError(f"chunk must be a positive number of calls, got {chunk!r}")
    return chunk


def checked_calls(calls: Any) -> Iterable[GivenCall]:
    """Refuse what is no iterable of calls."""
    if isinstance(calls, Iterable):
        return calls
    more = "; an async iterable is for aenqueue_many()" if isinstance(calls, AsyncIterable) else ""
    raise TypeError(f"enqueue_many() takes the calls in a list or another iterable, got {calls!r}{more}")


@interruptible
class Batch:
    """Calls that are encoded and not yet stored. `chunk`: how many are stored in one transaction, None: all.

    `encode` makes of the arguments a `NewJob`, or their bytes alone, or these with what the call takes of limits;
    `jobs_of` makes jobs to store of what it made.
    """

    def __init__(
        self,
        encode: Callable[[tuple[Any, ...], Mapping[str, Any]], NewJob | Encoded],
        jobs_of: Callable[[list[Any]], Sequence[NewJob]],
        chunk: int | None,
    ) -> None:
        self._encode, self._jobs_of, self._chunk = encode, jobs_of, checked_chunk(chunk)
        self._encoded: list[NewJob | Encoded] = []
        self._bytes = 0

    def add(self, call: GivenCall) -> bool:
        """Encode one more call; return whether the chunk is full."""
        if isinstance(call, tuple):
            encoded = self._encode(call, {})
        elif isinstance(call, Mapping):
            encoded = self._encode((), call)
        else:
            raise TypeError(
                f"enqueue_many() takes tuples of positional or mappings of keyword arguments, got {call!r}; "
                f"write ({call!r},) for a single argument"
            )
        self._encoded.append(encoded)
        if self._chunk is None:
            return False
        self._bytes += len(
            encoded if isinstance(encoded, bytes) else encoded[0] if isinstance(encoded, tuple) else encoded.payload
        )
        return len(self._encoded) >= self._chunk or self._bytes >= BUDGET

    def take(self) -> Sequence[NewJob]:
        """Return the jobs to store in one transaction, and begin anew."""
        encoded, self._encoded, self._bytes = self._encoded, [], 0
        if len(encoded) > MANY:
            warn_caller(
                f"enqueue_many() stores {len(encoded):,} calls in one transaction, for which other writers wait; "
                f"if they need not be stored all or none, pass chunk=1000"
            )
        return self._jobs_of(encoded) if encoded else []


class EnqueuedJobs(Sequence[Job[R]], Generic[R]):
    """The jobs of calls that were stored chunk by chunk, in their order; each is made when it is looked at.

    Of each its id alone is kept: 8 bytes, or none where the engine tells those of a chunk by a sequence of its own.
    """

    def __init__(self, source: Source, values: Values) -> None:
        self._source, self._values = source, values
        self._chunks: list[str | Sequence[Submitted] | list[Job[R]]] = []
        self._ends: list[int] = []  # of chunks: how many jobs there are up to there
        self._are_pending = False

    def note(
        self, jobs: Sequence[NewJob], submitted: Sequence[Submitted], make: Callable[[NewJob, Submitted], Job[R]]
    ) -> None:
        """Note one more chunk. Of one that a transaction of the caller's may undo yet, the jobs, which know that."""
        if submitted[0].pending:
            self._are_pending = True
            self._note(list(map(make, as_shown(jobs), submitted)), len(submitted))
        else:
            compact = " ".join([each.id for each in submitted]) if isinstance(submitted, list) else submitted
            self._note(compact, len(submitted))

    def _note(self, chunk: str | Sequence[Submitted] | list[Job[R]], count: int) -> None:
        self._chunks.append(chunk)
        self._ends.append(len(self) + count)

    def explain(self, error: Exception) -> None:
        """After an error that ended the call: raise `PartlyEnqueued` if a part is stored, come what may."""
        ends_the_run = isinstance(error, (JobTimeout, JobCancelled))
        if self and not self._are_pending and not ends_the_run:
            raise PartlyEnqueued(
                f"the first {len(self):,} calls are stored and stay so, then came {type(error).__name__}: {error}; "
                f"go on after them, with enqueue_many(itertools.islice(calls, {len(self)}, None), chunk=...), "
                f"where a generator must be made anew",
                self,
            ) from error

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Job[R]]:
        for number in range(len(self._chunks)):
            yield from self._chunk(number)

    @overload
    def __getitem__(self, place: int) -> Job[R]: ...
    @overload
    def __getitem__(self, place: slice) -> list[Job[R]]: ...
    def __getitem__(self, place: int | slice) -> Job[R] | list[Job[R]]:
        if isinstance(place, slice):
            return [self[number] for number in range(len(self))[place]]
        number = range(len(self))[place]
        chunk = bisect_right(self._ends, number)
        return self._chunk(chunk)[number - self._ends[chunk]]

    def _chunk(self, number: int) -> list[Job[R]]:
        chunk = self._chunks[number]
        if isinstance(chunk, list):
            return chunk
        ids = chunk.split() if isinstance(chunk, str) else [each.id for each in chunk]
        return [Job(job_id, self._source, self._values) for job_id in ids]

    def __repr__(self) -> str:
        return f"<EnqueuedJobs {len(self)}>"


@interruptible
def store_in_chunks(
    calls: Iterable[GivenCall],
    batch: Batch,
    stored: EnqueuedJobs[R],
    submit: Callable[[Sequence[NewJob]], Sequence[Submitted]],
    make: Callable[[NewJob, Submitted], Job[R]],
) -> EnqueuedJobs[R]:
    """Store the calls as they come, a chunk in each transaction."""
    try:
        for call in calls:
            if batch.add(call):
                stored.note(jobs := batch.take(), submit(jobs), make)
        if jobs := batch.take():
            stored.note(jobs, submit(jobs), make)
    except Exception as error:
        stored.explain(error)
        raise
    return stored


async def astore_in_chunks(
    calls: Iterable[GivenCall] | AsyncIterable[GivenCall],
    batch: Batch,
    stored: EnqueuedJobs[R],
    submit: Callable[[Sequence[NewJob]], Awaitable[Sequence[Submitted]]],
    make: Callable[[NewJob, Submitted], Job[R]],
) -> EnqueuedJobs[R]:
    """Async twin of `store_in_chunks`."""
    try:
        async for call in in_slices(calls):
            if batch.add(call):
                stored.note(jobs := batch.take(), await submit(jobs), make)
        if jobs := batch.take():
            stored.note(jobs, await submit(jobs), make)
    except Exception as error:
        stored.explain(error)
        raise
    return stored
