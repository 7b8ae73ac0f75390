"""A stored call made one of the present version, which its function can be called with. Knows no job, no store."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from litequeue.core.interruptible import calls_the_task, interruptible
from litequeue.errors import DecodeError, JobCancelled, JobTimeout
from litequeue.serialization.forms import LINK, FormedCall

if TYPE_CHECKING:
    from litequeue.core.records import Claimed
    from litequeue.serialization.signature import Call, Signature
    from litequeue.serialization.stored_calls import PlainCall

Upgrade = Callable[[int, dict[str, Any]], dict[str, Any]]

_ORDERED = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD


def checked_upgrade(upgrade: Upgrade | None, version: int) -> Upgrade | None:
    """Refuse what is no function for `upgrade=`, and a task that has no older versions."""
    if upgrade is None:
        return None
    if not callable(upgrade) or inspect.iscoroutinefunction(upgrade):
        raise TypeError(f"upgrade must be a plain function of (version, arguments), got {upgrade!r}")
    if version == 1:
        raise ValueError("upgrade= makes calls of older versions those of this one; give version=2 or more as well")
    return upgrade


def names_in_order(parameters: Sequence[inspect.Parameter]) -> tuple[str, ...]:
    """Return the names of what can be given by position; that of `*rest` comes last, with its star."""
    rest = [f"*{p.name}" for p in parameters if p.kind is p.VAR_POSITIONAL]
    return (*(p.name for p in parameters if p.kind in _ORDERED), *rest)


@interruptible
def call_of(
    job: Claimed, signature: Signature, version: int, upgrade: Upgrade | None, names: Sequence[str] | None
) -> Call | FormedCall:
    """Return the arguments of a stored call as a task of this version takes them; `names`: see `upgraded`.

    A call that is not complete is returned as it is: see `calls_of`.
    """
    if job.version == version:
        return signature.decode_call(job.payload)
    call = signature.stored.call(job.payload)
    return call if type(call) is FormedCall else upgraded(signature, call, job.version, upgrade, names)


@interruptible
def calls_of(
    call: FormedCall,
    handed: Any,
    job: Claimed,
    signature: Signature,
    version: int,
    upgrade: Upgrade | None,
    names: Sequence[str] | None,
) -> list[Call]:
    """Return the calls that a stored one stands for: of a link one, with the result handed on; of a chunk one an item.

    `handed`: what is handed on to a link, as plain data; `names`: see `upgraded`.
    """
    if call.form == LINK:
        what, given = "the call with what is handed on", [([handed, *call.args[1:]], call.kwargs)]
    else:
        what, given = "an item of the chunk", [([item], {}) for item in call.args]
    if job.version == version:
        return [signature.restored_call(*each, what) for each in given]
    return [upgraded(signature, each, job.version, upgrade, names, what) for each in given]


@calls_the_task
@interruptible
def upgraded(
    signature: Signature,
    call: PlainCall,
    version: int,
    upgrade: Upgrade | None,
    names: Sequence[str] | None,
    what: str = "the stored call",
) -> Call:
    """Return the arguments, which are plain data, as the present version takes them, decoded by its annotations.

    `names`: those that the older version gave to what is passed by position, if they are on record; else they are taken
    to be the present ones. Raises `DecodeError`, after which no job is tried again.
    """
    task = signature.task_name
    if upgrade is None:
        raise DecodeError(f"version {version} of {task} needs a worker of that version, or upgrade=")
    parameters = signature.calling.parameters
    args, kwargs = call
    arguments = _by_name(args, kwargs, names_in_order(parameters) if names is None else names, f"version {version}")
    try:
        found: Any = upgrade(version, arguments)
    except (JobTimeout, JobCancelled):
        raise
    except Exception as error:
        raise DecodeError(
            f"upgrade= of {task} raised for a call of version {version}: {type(error).__name__}: {error}"
        ) from error
    if not (isinstance(found, Mapping) and all(isinstance(name, str) for name in found)):
        raise DecodeError(f"upgrade= of {task} must return the arguments as a dict by name, got {type(found).__name__}")
    return signature.restored_call(*_as_call(dict(found), parameters), what)


def _by_name(args: Sequence[Any], kwargs: Mapping[str, Any], names: Sequence[str], version: str) -> dict[str, Any]:
    named = [name for name in names if not name.startswith("*")]
    rest = next((name[1:] for name in names if name.startswith("*")), None)
    if len(args) > len(named) and rest is None:
        raise DecodeError(
            f"the names of {len(args) - len(named)} of the arguments are not known, which were given by position: a "
            f"worker of {version} notes them when it starts, and none has noted so many"
        )
    given = dict(zip(named, args, strict=False))
    if rest is not None:
        given[rest] = list(args[len(named) :])
    return {**given, **kwargs}


def _as_call(given: dict[str, Any], parameters: Sequence[inspect.Parameter]) -> tuple[list[Any], dict[str, Any]]:
    args: list[Any] = []
    for parameter in parameters:
        if parameter.kind in _ORDERED:
            if parameter.name not in given:
                break
            args.append(given.pop(parameter.name))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            rest = given.pop(parameter.name, ())
            if not isinstance(rest, (list, tuple)):
                raise DecodeError(f"upgrade= must give {parameter.name} as a list, got {type(rest).__name__}")
            args += rest
    return args, given
