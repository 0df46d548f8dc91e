"""Why a call of the store failed: from redis-py's exceptions to the faults that metrics and logs name."""

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

_BY_TYPE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    ((TimeoutError, RedisTimeoutError), "timeout"),
    ((AuthenticationError, AuthorizationError, NoPermissionError), "denied"),
    (OutOfMemoryError, "memory"),
    (ReadOnlyError, "readonly"),
    (BusyLoadingError, "loading"),
    ((ClusterDownError, ClusterError, AskError, RedisClusterException), "cluster"),
)
_BY_CODE = {"MISCONF": "disk", "NOREPLICAS": "replicas", "TRYAGAIN": "cluster", "EMPTY": "empty"}


def fault_of(error: BaseException) -> str:
    """Which of `metrics.STORE_FAULTS` an exception is."""
    for kind, fault in _BY_TYPE:
        if isinstance(error, kind):
            return fault
    if isinstance(error, ResponseError):
        if "unauthenticated" in str(error):  # who is not logged in may not send as much as a batch
            return "denied"
        return _BY_CODE.get(str(error).partition(" ")[0], "other")
    return "unreachable" if isinstance(error, (RedisError, OSError)) else "other"
