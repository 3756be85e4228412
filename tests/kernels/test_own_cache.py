"""The cache of compiled cells takes nothing from other users, and outlives forks."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recurra.cells import Cell
from recurra.cells.algebra import State, tanh
from recurra.kernels.cpu import own, own_cache
from recurra.kernels.cpu.generator.plan import plan

from .own_compiler import MARKS, Compiler, Small, backends_of, forget, libraries

pytestmark = MARKS
posix = pytest.mark.skipif(os.name != "posix", reason="this system has no user ids")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


class Another(Cell):
    gates = ("n",)

    def step(self, gate, state, weight):
        return State(h=0.25 * tanh(gate.n))


# ---- where it is


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("RECURRA_CACHE", "~/cells")
    assert own.cache_folder() == home / "cells"
    monkeypatch.delenv("RECURRA_CACHE")
    assert own.cache_folder() == tmp_path / "xdg" / "recurra"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        monkeypatch.setattr(sys, "platform", "linux")
        assert own.cache_folder() == home / ".cache" / "recurra"
        monkeypatch.setattr(sys, "platform", "darwin")
        assert own.cache_folder() == home / "Library" / "Caches" / "recurra"


# ---- whom it is taken from


def assert_not_trusted(cache: Path, compiler: Compiler, match: str) -> None:
    """Both cells are compiled, with one warning, and nothing is read from the folder or written to it."""
    before = libraries(cache) if cache.is_dir() else None
    forget()
    calls = compiler.calls
    with pytest.warns(UserWarning, match=match) as said:
        assert backends_of(Small()) == backends_of(Another()) == ["cpu"]
    assert len(said) == 1 and "RECURRA_CACHE" in str(said[0].message)
    assert compiler.calls == calls + 2
    assert (libraries(cache) if cache.is_dir() else None) == before


@posix
def test_the_folder_and_what_is_in_it_are_the_users_alone(cache: Path) -> None:
    umask = os.umask(0)
    try:
        backends_of(Small())
    finally:
        os.umask(umask)
    for path in (cache.parent, cache, *libraries(cache)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700 and path.stat().st_uid == os.geteuid()


@posix
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_folder_that_others_can_write_to_is_not_used(mode: int, cache: Path, compiler: Compiler) -> None:
    backends_of(Small())
    cache.chmod(mode)
    assert_not_trusted(cache, compiler, f"others can write to {cache} and")


@posix
def test_a_folder_of_another_user_is_not_used(cache: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    backends_of(Small())
    real = os.geteuid()
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: real + 12345)
        with pytest.raises(own_cache._Distrusted, match=f"others .user {real}. own /"):
            own_cache._trusted(cache)
    # Only root can give a folder away, as would a user who shares it with root by sudo -E.
    if real == 0:
        os.chown(cache, 12345, 12345)
        assert_not_trusted(cache, compiler, f"others .user 12345. own {cache} and")


@posix
def test_a_folder_that_others_can_swap_is_not_used(cache: Path, compiler: Compiler) -> None:
    backends_of(Small())
    cache.parent.chmod(0o777)
    assert_not_trusted(cache, compiler, f"others can write to {cache.parent} and")
    # As /tmp is: what is the user's there, others can neither remove nor rename.
    cache.parent.chmod(0o1777)
    forget()
    calls = compiler.calls
    assert backends_of(Small()) == ["cpu"] and compiler.calls == calls


@posix
def test_a_group_above_the_folder_is_trusted_if_the_user_is_alone_in_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_cache._trusted(cache)
    cache.parent.chmod(0o770)
    monkeypatch.setattr(own_cache, "_is_alone_in", lambda group: True)
    assert own_cache._trusted(cache) == cache
    monkeypatch.setattr(own_cache, "_is_alone_in", lambda group: False)
    with pytest.raises(own_cache._Distrusted, match="others can write to"):
        own_cache._trusted(cache)


@posix
def test_who_is_alone_in_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    import grp
    import pwd

    me = pwd.getpwuid(os.geteuid()).pw_name
    for name, members, alone in ((me, [], True), (me, [me], True), (me, ["other"], False), ("staff", [], False)):
        entry = grp.struct_group((name, "x", 7, members))
        monkeypatch.setattr(grp, "getgrgid", lambda group, entry=entry: entry)
        assert own_cache._is_alone_in(7) is alone
    monkeypatch.setattr(grp, "getgrgid", lambda group: {}[group])
    assert own_cache._is_alone_in(7) is False


def for_others(path: Path) -> None:
    path.chmod(0o722)


def linked(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere.so")
    path.symlink_to(path.parent.parent / "elsewhere.so")


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o700)


@posix
@pytest.mark.parametrize("how", [for_others, linked, a_pipe])
def test_a_library_that_others_could_have_put_there_is_compiled_again(
    how: Callable[[Path], object], cache: Path, compiler: Compiler
) -> None:
    backends_of(Small())
    (path,) = libraries(cache)
    how(path)
    forget()
    assert backends_of(Small()) == ["cpu"] and compiler.calls == 2
    (path,) = libraries(cache)
    assert stat.S_ISREG(path.lstat().st_mode) and stat.S_IMODE(path.lstat().st_mode) == 0o700
    forget()
    assert backends_of(Small()) == ["cpu"] and compiler.calls == 2


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_library_of_another_user_is_compiled_again(cache: Path, compiler: Compiler) -> None:
    backends_of(Small())
    (path,) = libraries(cache)
    os.chown(path, 12345, 12345)
    forget()
    assert backends_of(Small()) == ["cpu"] and compiler.calls == 2


@posix
def test_a_linked_folder_is_used_where_it_is(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large disk").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "large disk")
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "link"))
    backends_of(Small())
    assert libraries(tmp_path / "large disk")
    forget()
    assert backends_of(Small()) == ["cpu"] and compiler.calls == 1
    (tmp_path / "large disk").chmod(0o777)
    assert_not_trusted(tmp_path / "large disk", compiler, "large disk and")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux loads by a descriptor")
def test_the_bytes_that_were_checked_are_those_that_are_loaded(cache: Path) -> None:
    library = own.compile_cell(plan(Small()), "portable")
    assert library is not None
    library.path.unlink()
    library.path.write_bytes(b"somebody else's")
    own._address(library, plan(Small()))
    # The number of a loaded library's descriptor must not become another file's.
    library.close()
    assert os.fstat(library._descriptor).st_nlink == 0


def test_no_descriptors_are_left_open(cache: Path) -> None:
    backends_of(Small())
    (path,) = libraries(cache)
    path.write_bytes(path.read_bytes() + b"?")
    before = set(Path("/proc/self/fd").iterdir()) if sys.platform == "linux" else set()
    assert own_cache.find(cache, path.stem.split("-")[0]) is None
    assert not before or set(Path("/proc/self/fd").iterdir()) == before


def test_without_user_ids_the_folder_is_taken_as_it_is(
    cache: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends_of(Small())
    cache.chmod(0o777)
    monkeypatch.delattr(os, "geteuid", raising=False)
    forget()
    assert backends_of(Small()) == ["cpu"] and compiler.calls == 1


# ---- forks


IN_A_FORK = """
import faulthandler, os, sys, threading, time
from pathlib import Path
import recurra, torch
from recurra.cells import Cell
from recurra.cells.algebra import State, relu, tanh
from recurra.kernels import record_backends

class Slow(Cell):
    gates = ("n",)
    def step(self, gate, state, weight): return State(h=0.75 * relu(gate.n))

class Quick(Cell):
    gates = ("n",)
    def step(self, gate, state, weight): return State(h=0.25 * tanh(gate.n))

def run(cell):
    with record_backends() as ran:
        recurra.Recurrent(cell, 3, 5)(torch.ones(4, 2, 3))
    return ran

started, go_on = Path(sys.argv[1]), Path(sys.argv[2])
"""


def in_a_fork(tmp_path: Path, script: str, timeout: float = 180) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", IN_A_FORK + script, str(tmp_path / "started"), str(tmp_path / "go")]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


WAITING = """
thread = threading.Thread(target=lambda: results.append(run(Slow())))
results = []
thread.start()
while not started.exists():
    time.sleep(0.01)
child = os.fork()
if child == 0:
    CHILD
status = os.waitpid(child, 0)[1]
go_on.touch()
thread.join()
print(os.waitstatus_to_exitcode(status), results)
"""
COMPILES = "faulthandler.dump_traceback_later(60, exit=True); os._exit(7 if run(Quick()) else 1)"
# As every Python process does, with what was to be done at the end.
ENDS = "sys.exit(7)"


@forks
@pytest.mark.parametrize(
    ("child", "kept"),
    [
        pytest.param(COMPILES, True, id="compiles-kept"),
        pytest.param(COMPILES, False, id="compiles-private", marks=pytest.mark.check),
        pytest.param(ENDS, True, id="ends-kept", marks=pytest.mark.check),
        pytest.param(ENDS, False, id="ends-private"),
    ],
)
def test_a_child_forked_while_a_cell_is_compiled(
    child: str, kept: bool, tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:
        (tmp_path / "file").touch()
        monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "file" / "cache"))
    # The first waits until the child is done; what it is asked to make lies in a folder that must still be there.
    compiler.write(
        f"if [ ! -e '{tmp_path / 'started'}' ]; then touch '{tmp_path / 'started'}'\n"
        f"while [ ! -e '{tmp_path / 'go'}' ]; do sleep 0.02; done; fi\n"
        f'exec {compiler.real} "$@"'
    )
    done = in_a_fork(tmp_path, WAITING.replace("CHILD", child))
    assert (done.stdout, done.returncode) == ("7 [['cpu']]\n", 0), done.stderr


@forks
def test_a_childs_end_leaves_the_parents_private_folder(
    tmp_path: Path, compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    done = in_a_fork(
        tmp_path,
        """
run(Slow())
child = os.fork()
if child == 0:
    run(Quick())
    print(len(list(Path(os.environ["TMPDIR"]).glob("recurra-*"))), flush=True)
    sys.exit()
os.waitpid(child, 0)
print(len(list(Path(os.environ["TMPDIR"]).glob("recurra-*/*.so"))), run(Quick()))
""",
    )
    assert (done.stdout, done.returncode) == ("2\n1 ['cpu']\n", 0), done.stderr
    assert not list((tmp_path / "temporary").glob("recurra-*"))
