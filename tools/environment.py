# ruff: noqa: UP032 (an old Python must be able to read this, to say that it is too old)
"""Make the environment of `make setup`, or refuse with the reason before anything is fetched.

Usage: ``PYTHON tools/environment.py FOLDER [--asked]``, by the Python that the environment is to
have; ``--asked`` if the user named it. An environment that stands is kept, unless its set-up did
not finish, its Python is gone, or another one was asked for: then it is made anew. A folder that
was not made here is never removed. With ``--stale`` nothing is done, but FORCE printed, which
make takes for a prerequisite, if an environment stands whose Python is another one.

In the folder `.made` says that it was made here, `.unfinished` that a set-up began; at its end the
Makefile removes the latter and writes `.installed`.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig

# What the pins of requirements.lock have wheels for: tools/lock_check.py asks the index.
OLDEST, NEWEST = (3, 11), (3, 14)
GLIBC, MACOS = (2, 28), (15, 0)
MARKS = (".made", ".unfinished")
MACHINES = {"Linux": ("x86_64", "aarch64"), "Darwin": ("arm64",)}


def dotted(version):
    return ".".join(str(number) for number in version)


def numbers(version):
    """The leading two numbers of a version: 2 and 36 of "2.36"."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def this():
    """What decides whether the pinned packages can be installed for this Python."""
    return {
        "version": tuple(sys.version_info[:3]),
        "implementation": platform.python_implementation(),
        "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "system": platform.system(),
        "machine": platform.machine() if sys.maxsize > 2**32 else "32 bits",
        "libc": platform.libc_ver(),
        "macos": platform.mac_ver()[0],
    }


def refusal(version, implementation, free_threaded, system, machine, libc, macos):
    """Why the pinned packages cannot be installed, or None."""
    wanted = "CPython {} to {} is needed".format(dotted(OLDEST), dotted(NEWEST))
    name = "{} {}".format(implementation, dotted(version))
    if version[:2] < OLDEST or implementation != "CPython":
        return "{}, this is {}".format(wanted, name)
    if version[:2] > NEWEST:
        return "{}, this is {}, for which the pinned torch has no wheel".format(wanted, name)
    if free_threaded:
        return wanted + ", this one is free-threaded, for which not all packages have wheels"
    if system not in MACHINES:
        return "Linux or macOS is needed, this is {}".format(system)
    if machine not in MACHINES[system]:
        known = " and ".join(MACHINES[system])
        return "on {} the pinned torch has wheels for {}, none for {}".format(
            system, known, machine
        )
    if system == "Darwin" and numbers(macos) < MACOS:
        return "macOS {} or newer is needed, this is {}".format(MACOS[0], macos)
    if system == "Linux" and (libc[0] != "glibc" or numbers(libc[1]) < GLIBC):
        found = " ".join(libc).strip() or "another C library"
        return "the pinned torch needs glibc {}, this is {}".format(dotted(GLIBC), found)
    return None


def same(folder):
    """Whether the Python of an environment is this one; None if it does not run."""
    script = "import os, sys; print(sys.version_info[:3], os.path.realpath(sys.base_prefix))"
    command = [os.path.join(folder, "bin", "python"), "-I", "-c", script]
    try:
        ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    here = "{} {}".format(tuple(sys.version_info[:3]), os.path.realpath(sys.base_prefix))
    return ran.stdout.decode().strip() == here


def outdated(folder, asked):
    """Why an environment must be made anew, or None."""
    if os.path.exists(os.path.join(folder, ".unfinished")):
        return "its last set-up did not finish"
    found = same(folder)
    if found is None:
        return "its Python does not run"
    return "it has another Python" if asked and not found else None


def make(folder):
    """An environment in place of what was in the folder; the marks stand all the while."""
    if not os.path.isdir(folder):
        os.makedirs(folder)
    for mark in MARKS:
        open(os.path.join(folder, mark), "w").close()
    for name in set(os.listdir(folder)) - set(MARKS):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)
    if subprocess.run([sys.executable, "-m", "venv", folder]).returncode:
        sys.exit(1)


def main(folder, asked=False):
    """Leave an environment in the folder, marked as unfinished, or exit with the reason."""
    there = os.path.lexists(folder) and not (os.path.isdir(folder) and not os.listdir(folder))
    made = os.path.exists(os.path.join(folder, ".made"))
    if there and not made and not os.path.exists(os.path.join(folder, "pyvenv.cfg")):
        sys.exit("{} is there, and is no environment: name another by VENV=".format(folder))
    why = outdated(folder, asked) if there else None
    if there and not why:
        # What it has may be another Python than this one.
        command = [os.path.join(folder, "bin", "python"), os.path.abspath(__file__), "--check"]
        if subprocess.run(command).returncode:
            sys.exit(1)
        open(os.path.join(folder, ".unfinished"), "w").close()
        return
    check()
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        sys.exit(
            "{} has no {}, without which no environment can be made; on Debian and Ubuntu the "
            "package python{}-venv brings it".format(
                sys.executable, error.name, dotted(sys.version_info[:2])
            )
        )
    if there and not made:
        sys.exit(
            "{} must be made anew: {}. It was not made by make: remove it, or name another by "
            "VENV=".format(folder, why)
        )
    if there:
        print("{} is made anew: {}".format(folder, why))
    make(folder)


def check():
    reason = refusal(**this())
    if reason:
        sys.exit("{} ({}); another is named by make PYTHON=...".format(reason, sys.executable))


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        check()
    elif "--stale" in sys.argv:
        if os.path.isdir(sys.argv[1]) and outdated(sys.argv[1], True):
            print("FORCE")
    else:
        main(sys.argv[1], "--asked" in sys.argv)
