"""Machines of one's own, on one box: each a namespace with an address, a home, processes and an sshd of its own.

What `ray up` needs of a machine is a login over SSH and a `ray` on the PATH. A machine here is a process that is the
first of its own pid, mount, uts and ipc namespaces: killing it is pulling the plug, and taking its link down is pulling
the cable. All are on one bridge, over which this box, the outside, reaches them. Needs root on Linux, and of Debian's
packages iproute2, openssh-server and rsync.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
USER = "ray"
_PROGRAMS = ("ip", "sshd", "ssh", "ssh-keygen", "rsync", "unshare", "nsenter", "setpriv", "ss")
_SSHD_CONFIG = """\
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
MaxStartups 100
"""
# The first process of a machine. It takes in orphans, as Ray's daemons become.
_INIT = """\
set -e
hostname {name}
mkdir -p /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir /run/sshd
mount --bind {folder}/disk {home}
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/hosts /etc/hosts
{sshd} -D -e -f {folder}/sshd_config &
while true; do wait -n || sleep 1; done
"""


def why_not() -> str | None:
    """Why machines cannot be had here; None where they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "machines are network namespaces, which need root on Linux"
    missing = [program for program in _PROGRAMS if _which(program) is None]
    if missing:
        return f"machines need {', '.join(missing)}; install iproute2, openssh-server and rsync"
    name = f"mlc{secrets.token_hex(3)}"
    command = [
        *("unshare", "--net", "--pid", "--fork", "--mount", "--uts", "--ipc", "--mount-proc"),
        *("sh", "-c", f"ip link add {name} type bridge && mount -t tmpfs tmpfs /run && hostname {name}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return None if done.returncode == 0 else f"namespaces are not to be had here: {done.stderr.strip()}"


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _ip(*words: str, check: bool = True) -> str:
    done = subprocess.run([str(_which("ip")), *words], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0 or not check, f"ip {' '.join(words)}: {done.stderr.strip()}"
    return done.stdout


@dataclass
class Machine:
    """One machine; `folder` holds what it is made from.

    The path of the home is the same on each, and what lies there is not: it is `disk` on this box, and outlives the
    machine.
    """

    name: str
    address: str
    gateway: str
    bridge: str
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    _pid_namespace: str = ""

    @property
    def home(self) -> Path:
        return self.folder.parent / "home"

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    def start(self) -> None:
        """Switches it on, and waits for its sshd."""
        link = f"{self.name}x"
        # The same card each time: who talked to the machine before it was switched off still knows the address.
        card = "02:00:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))
        _ip("netns", "add", self.name)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "address", card, "netns", self.name)
        _ip("link", "set", link, "master", self.bridge, "up")
        for words in (f"addr add {self.address}/24 dev eth0", "link set eth0 up", "link set lo up"):
            _ip("-n", self.name, *words.split())
        _ip("-n", self.name, "route", "add", "default", "via", self.gateway)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    # Should the tests be killed, the machines go as well.
                    *(
                        "setpriv",
                        "--pdeathsig",
                        "KILL",
                        str(_which("ip")),
                        "netns",
                        "exec",
                        self.name,
                        "unshare",
                        "--pid",
                        "--fork",
                        "--kill-child",
                    ),
                    *("--mount", "--uts", "--ipc", "--mount-proc", "bash", str(self.folder / "init")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_for_ssh()
        self._pid_namespace = str(Path(f"/proc/{self._init_pid()}/ns/pid").readlink())

    def _wait_for_ssh(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.address, 22), timeout=1):
                return
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    @property
    def is_on(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _init_pid(self) -> int:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs a command on it as its user would, without SSH."""
        words = [
            *("nsenter", "-t", str(self._init_pid()), "--mount", "--uts", "--ipc", "--net", "--pid"),
            f"--wd={self.home}",
            *("env", "-i", f"HOME={self.home}", f"USER={USER}", f"PATH={os.defpath}:/usr/sbin:/sbin"),
            *("bash", "-c", 'source ~/.bashrc && "$@"', "run", *command),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=timeout)
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done

    def processes(self) -> dict[int, str]:
        """Everything that runs on it, by the box's own process ids."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if str((entry / "ns" / "pid").readlink()) == self._pid_namespace:
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def kill(self) -> None:
        """Pulls the plug: every process is gone at once, and so is the link, before anybody could be told."""
        _ip("link", "delete", f"{self.name}x", check=False)
        if self.process is not None:
            with contextlib.suppress(OSError, IndexError):
                os.kill(self._init_pid(), signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(timeout=20)
        deadline = time.monotonic() + 20
        while self._pid_namespace and self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        _ip("netns", "delete", self.name, check=False)

    def set_link(self, state: str) -> None:
        """`down` pulls the cable, `up` puts it back."""
        _ip("link", "set", f"{self.name}x", state)


@dataclass
class Machines:
    """Some machines on one bridge, and `client_home`: the home of a person who reaches them from outside."""

    folder: Path
    bridge: str
    subnet: str
    machines: list[Machine] = field(default_factory=list)

    def __getitem__(self, index: int) -> Machine:
        return self.machines[index]

    @property
    def key(self) -> Path:
        """The private key that logs into each."""
        return self.folder / "key"

    @property
    def client_home(self) -> Path:
        return self.folder / "client"

    def end(self) -> None:
        """Switches all off, and takes the bridge down; does nothing where that is done."""
        for machine in self.machines:
            machine.kill()
        _ip("link", "delete", self.bridge, check=False)

    def left_over(self) -> list[str]:
        """What is still there of them: processes, namespaces and links. Empty once they are ended."""
        processes = [command for machine in self.machines for command in machine.processes().values()]
        namespaces = [line.split()[0] for line in _ip("netns", "list").splitlines() if line.startswith(self.bridge)]
        links = [line for line in _ip("-br", "link").splitlines() if line.startswith(self.bridge)]
        return [*processes, *namespaces, *links]


@contextlib.contextmanager
def running_machines(folder: Path, *, count: int) -> Iterator[Machines]:
    """So many machines, switched on; all is gone at the end, also after a failure."""
    name = f"mlc{secrets.token_hex(3)}"
    subnet = _free_subnet()
    found = Machines(folder=folder, bridge=name, subnet=subnet)
    _write_shared_files(folder)
    atexit.register(found.end)  # whoever is interrupted while fixtures are torn down does not come to the end of this
    try:
        _ip("link", "add", name, "type", "bridge")
        _ip("addr", "add", f"{subnet}.1/24", "dev", name)
        _ip("link", "set", name, "up")
        for number in range(count):
            machine = Machine(
                name=f"{name}-{number}",
                address=f"{subnet}.{10 + number}",
                gateway=f"{subnet}.1",
                bridge=name,
                folder=folder / f"machine-{number}",
            )
            found.machines.append(machine)
            _write_machine_files(machine, folder)
            machine.start()
        yield found
    finally:
        found.end()
        atexit.unregister(found.end)


def _free_subnet() -> str:
    """A /24 of 10.0.0.0/8 to which this box has no route yet."""
    taken = _ip("-4", "route")
    while True:
        subnet = f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(256)}"
        if f"{subnet}." not in taken:
            return subnet


def _write_shared_files(folder: Path) -> None:
    for name in ("client", "home"):
        (folder / name).mkdir(mode=0o700, parents=True)
    for name in ("key", "host_key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(words, check=True, timeout=30)
    _write_python(folder / "python")


def _write_python(folder: Path) -> None:
    """A Python as an installation leaves one: this one's packages, and this project; with `ray` and `mlcluster`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    (site,) = folder.glob("lib/python*/site-packages")
    others = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    lines = [str(ROOT), *(f"import site; site.addsitedir({entry!r})" for entry in others)]
    (site / "installed.pth").write_text("\n".join(lines) + "\n")
    for name, module in (("ray", "ray.scripts.scripts"), ("mlcluster", "mlcluster.cli.main")):
        script = folder / "bin" / name
        script.write_text(f"#!{folder}/bin/python\nfrom {module} import main\n\nmain()\n")
        script.chmod(0o755)


def _write_machine_files(machine: Machine, shared: Path) -> None:
    machine.disk.mkdir(mode=0o700, parents=True)
    (machine.disk / ".bashrc").write_text(f"export PATH={shared}/python/bin:/usr/local/bin:/usr/bin:/bin\n")
    for name in ("host_key", "key.pub"):
        (machine.folder / name).symlink_to(shared / name)
    others = Path("/etc/passwd").read_text()
    # Root by another name, and the first to bear its number, so that programs which ask whose home it is are told this.
    (machine.folder / "passwd").write_text(f"{USER}:x:0:0::{machine.home}:/bin/bash\n{others}")
    (machine.folder / "hosts").write_text(f"127.0.0.1 localhost\n{machine.address} {machine.name}\n")
    (machine.folder / "sshd_config").write_text(_SSHD_CONFIG.format(address=machine.address, folder=machine.folder))
    init = _INIT.format(name=machine.name, folder=machine.folder, home=machine.home, sshd=_which("sshd"))
    (machine.folder / "init").write_text(init)


def ssh_words(machines: Machines, machine: Machine, *more: str) -> Sequence[str]:
    """The `ssh` command to one of them; `more` are options and the command."""
    options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
    return ["ssh", "-i", str(machines.key), *options, f"{USER}@{machine.address}", *more]
