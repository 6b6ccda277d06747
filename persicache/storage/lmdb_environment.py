"""The LMDB environments of this process, each opened once: `Environment`."""

# ruff: noqa: PTH110, PTH113, PTH118, PTH202 - plain os calls, as in folders

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from persicache.errors import BackendError, MissingDependency
from persicache.storage.files import file_identity
from persicache.storage.gate import Gate
from persicache.storage.private_file import create_private
from persicache.storage.table import own_copy

if TYPE_CHECKING:
    import lmdb

__all__ = ["Environment", "data_file", "enter", "leave", "library"]

T = TypeVar("T")

_MAP_NBYTES: Final = 1024**3
_ROOM_NBYTES: Final = 16 * 1024**2
_MOST_TABLES: Final = 256
_MOST_READERS: Final = 1024
_TRIES: Final = 60
_REFUSALS: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

# LMDB refuses to open the same files twice in a process, since closing them once would take
# away the locks of both. So an environment is the process's.
_opened: list[Environment] = []
_guard = threading.RLock()


def library() -> Any:
    """Return the module `lmdb`; MissingDependency if it isn't installed."""
    try:
        import lmdb  # noqa: PLC0415 - an extra
    except ImportError:
        raise MissingDependency(package="lmdb", extra="lmdb") from None
    return lmdb


def data_file(path: str) -> str:
    """Return the file in which the environment at `path` keeps its data."""
    return path if os.path.isfile(path) else os.path.join(path, "data.mdb")


class Environment:
    """An LMDB environment: a folder, or a file that somebody else made, with its tables.

    Parameters
    ----------
    path : str
        The folder, absolute.
    durable : bool
        Whether what was written survives a power cut.
    map_nbytes : int
        How much it can hold to begin with; it grows.

    Notes
    -----
    Its map can only grow when the process has no transaction in it, so every transaction
    passes a gate. So does every fork: a child that closed what it inherits, as it must before
    it can open the same files, would end the parent's transactions if there were any.
    """

    def __init__(self, path: str, *, durable: bool, map_nbytes: int) -> None:
        self.users: set[object] = set()
        self.pid = os.getpid()
        self.gate = Gate()
        self.forked_inside = False
        self.is_closed = False
        self.path = path
        self._durable = durable
        self._map_nbytes = map_nbytes
        self._lmdb = library()
        self._writing = threading.RLock()
        self._tables: dict[bytes | None, Any] = {}  # None is for the rows that are in no table
        self._environment = self._open()
        self.identity = file_identity(data_file(path))

    def __repr__(self) -> str:
        return f"Environment({self.path!r})"

    def make_durable(self) -> None:
        """See that from now on what is written survives a power cut."""
        if self._durable:
            return
        with self._writing, self.gate.shut():
            self._environment.sync(True)  # noqa: FBT003 - LMDB's signature
            self._environment.close()
            self._durable = True
            self._tables.clear()
            self._environment = self._open()

    def close(self) -> None:
        """Close it, once nobody is in a transaction."""
        with self._writing, self.gate.shut():
            self.is_closed = True
            self._environment.close()

    @property
    def is_lost(self) -> bool:
        """Whether its files were removed or replaced since it was opened."""
        return self.identity != file_identity(data_file(self.path))

    def table(self, key: bytes | None, *, create: bool) -> Any:
        """Return the table of this name, None if there is none and none is to be made."""
        found = self._tables.get(key)
        if found is not None:
            return found
        # LMDB forbids two transactions that open tables at once.
        with self._writing:
            try:
                found = self._grown(lambda: self._open_table(key, create=False), 0)
            except self._lmdb.NotFoundError:
                if not create:
                    return None
                found = self._grown(lambda: self._open_table(key, create=True), _ROOM_NBYTES)
            self._tables[key] = found
        return found

    def get(self, key: bytes, name: bytes) -> bytes | bytearray | None:
        """Return a copy of the value of `name` in the table `key`, None if there is none."""
        # As `read` does, without all that a context manager and a function of its own would cost.
        me = threading.get_ident()
        gate = self.gate
        inside = gate.inside
        inside.append(me)
        if gate.keeper is not None:
            gate.wait(me)
        try:
            table = self._tables.get(key)
            if table is not None:
                # Positional, which is half the time: no parent, no writing, views instead of copies.
                transaction = self._environment.begin(table, None, False, True)  # noqa: FBT003
                try:
                    view = transaction.get(name)
                    return None if view is None else own_copy(view)
                finally:
                    transaction.abort()
        except (self._lmdb.MapResizedError, self._lmdb.ReadersFullError):
            pass
        finally:
            inside.remove(me)
            if gate.keeper is not None:
                gate.tell()
        return self.read(key, lambda transaction, _: self._get(transaction, name), None)

    @staticmethod
    def _get(transaction: Any, name: bytes) -> bytes | bytearray | None:
        view = transaction.get(name)
        return None if view is None else own_copy(view)

    def read(self, key: bytes | None, work: Callable[[lmdb.Transaction[Any], Any], T], default: T) -> T:
        """Return what `work` makes of a transaction and the table `key`, `default` if there is none."""
        for tries in range(_TRIES):
            table = self._tables.get(key)
            if table is None:
                table = self.table(key, create=False)
                if table is None:
                    return default
            try:
                # The gate can have been shut, and the environment opened anew, in between.
                with self.gate:
                    if self._tables.get(key) is not table:
                        continue
                    with self._environment.begin(db=table, buffers=True) as transaction:
                        return work(transaction, table)
            except self._lmdb.MapResizedError:
                self._resize(0)
            except self._lmdb.ReadersFullError:
                if tries:
                    raise
                self._environment.reader_check()
        raise BackendError(place=self.path, action="read", cause="its map grows all the time")

    def write(
        self, key: bytes | None, work: Callable[[lmdb.Transaction[Any], Any], T], *, nbytes: int
    ) -> T:
        """Return what `work` does in a transaction of its own, that is about to add `nbytes`."""
        with self._writing:
            return self._grown(lambda: self._write(key, work), nbytes)

    def _open_table(self, key: bytes | None, *, create: bool) -> Any:
        # In a writing transaction of its own: a handle from one that reads is lost with it.
        with self.gate:
            return self._environment.open_db(key, create=create)

    def _write(self, key: bytes | None, work: Callable[[lmdb.Transaction[Any], Any], T]) -> T:
        table = self.table(key, create=True)
        with self.gate, self._environment.begin(db=table, write=True, buffers=True) as transaction:
            return work(transaction, table)

    def _grown(self, attempt: Callable[[], T], nbytes: int) -> T:
        for _ in range(_TRIES):
            try:
                return attempt()
            except self._lmdb.MapFullError:
                # Twice as much each time, and at once enough for what is to come.
                self._resize(2 * self._map_nbytes + 2 * nbytes + _ROOM_NBYTES)
            except self._lmdb.MapResizedError:
                self._resize(0)
        raise BackendError(place=self.path, action="write", cause="its map can't grow enough")

    def _resize(self, nbytes: int) -> None:
        with self._writing, self.gate.shut():
            self._environment.set_mapsize(-(-nbytes // 4096) * 4096)
            self._map_nbytes = self._environment.info()["map_size"]

    def _open(self) -> Any:
        for _ in range(_TRIES):
            # Race: others can make it grow between its opening and the transaction that belongs to it.
            with contextlib.suppress(self._lmdb.MapResizedError):
                return self._open_once()
        raise BackendError(place=self.path, action="open", cause="its map grows all the time")

    def _open_once(self) -> Any:
        as_folder = not os.path.isfile(self.path)
        options: dict[str, Any] = {
            "map_size": max(self._map_nbytes, _nbytes_in(data_file(self.path))),
            "max_dbs": _MOST_TABLES,
            "max_readers": _MOST_READERS,
            "subdir": as_folder,
            "sync": self._durable,
            "metasync": self._durable,
            # A full disk kills a process that writes through a map.
            "writemap": False,
            # A transaction kept for the next reader holds a place in the table of readers, that
            # a forked child would give away.
            "max_spare_txns": 0,
        }
        try:
            if as_folder:
                for name in ("data.mdb", "lock.mdb"):
                    create_private(os.path.join(self.path, name), durable=self._durable)
            environment = self._lmdb.open(self.path, **options)
            self._lengthen(environment)
        except (OSError, self._lmdb.Error) as error:
            if not _is_refusal(error) or not os.path.exists(data_file(self.path)):
                raise
            environment = self._lmdb.open(self.path, **{**options, "readonly": True, "lock": False})
        self._map_nbytes = environment.info()["map_size"]
        # Those who were killed while they read would keep old pages from being used again.
        if environment.flags().get("lock", True):
            environment.reader_check()
        return environment

    def _lengthen(self, environment: Any) -> None:
        # Crash: what isn't durable can survive a power cut in part. Where the pages that others
        # lead to lie beyond the end of the file, reading them would kill the process (SIGBUS);
        # of an empty one LMDB says that it is damaged.
        nbytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        path = data_file(self.path)
        if os.path.getsize(path) < nbytes:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.posix_fallocate(fd, 0, nbytes)  # never shortens what another process writes to
            finally:
                os.close(fd)


def enter(path: str, user: object, *, durable: bool, map_nbytes: int | None = None) -> Environment:
    """Return the process's environment at `path`, opened if it isn't; `leave` gives it back.

    Parameters
    ----------
    path : str
        The folder, absolute and free of links.
    user : object
        Stands for whoever asks.
    durable : bool
        Whether what is written survives a power cut; if one of its users wants that, all get it.
    map_nbytes : int, optional
        How much it can hold to begin with, 1 GiB by default.
    """
    with _guard:
        for environment in _opened.copy():
            if environment.pid == os.getpid():
                if not environment.users:
                    _close(environment)
            elif environment.path == path:
                _drop_inherited(environment)
        identity = file_identity(data_file(path))
        for known in _opened:
            # Whoever has one whose files were removed since goes on with what there was.
            if known.path == path and known.identity == identity and known.pid == os.getpid():
                break
        else:
            known = Environment(path, durable=durable, map_nbytes=map_nbytes or _MAP_NBYTES)
            _opened.append(known)
        if durable:
            known.make_durable()
        known.users.add(user)
        return known


def leave(environment: Environment, user: object) -> None:
    """Give back what `enter` returned; the last one closes it."""
    with _guard:
        environment.users.discard(user)
        if not environment.users and environment in _opened:
            _close(environment)


def _close(environment: Environment) -> None:
    _opened.remove(environment)
    environment.close()


def _drop_inherited(environment: Environment) -> None:
    if environment.forked_inside:
        cause = "this process was forked in the middle of a transaction, by the thread that was in it"
        raise BackendError(place=environment.path, action="open the environment", cause=cause)
    # The library wouldn't open the same files again otherwise. The parent had no transaction
    # when it forked, so that there is nothing of its own to be undone.
    environment._environment.close()  # noqa: SLF001 - a part of the same module
    _opened.remove(environment)


def _nbytes_in(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _REFUSALS
    return getattr(error, "code", None) in _REFUSALS or any(
        os.strerror(number) in str(error) for number in _REFUSALS
    )


# Race: a fork waits until no thread is in a transaction, as the environment's notes say.


def _before_fork() -> None:
    _guard.acquire()
    # First, for whoever is interrupted in what follows: the fork goes on all the same.
    stack = contextlib.ExitStack()
    _stacks.append(stack)
    for environment in _opened:
        if environment.pid == os.getpid():
            environment.forked_inside = True
            environment.forked_inside = not stack.enter_context(environment.gate.shut())


def _after_fork_in_parent() -> None:
    _stacks.pop().close()
    _guard.release()


_stacks: list[contextlib.ExitStack] = []
# A child leaves the parent's gates shut: another thread may have held their locks just then.
os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_guard.release
)
