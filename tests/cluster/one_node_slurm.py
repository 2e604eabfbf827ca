"""A SLURM cluster of one node on this machine, without systemd.

`python one_node_slurm.py FOLDER [CPUS]` starts one, to try things. Needs root, and Debian's slurm-wlm and munge. Touches nothing
outside FOLDER: it has its own keys, ports and state. It pretends to have CPUs (four, if nothing else is said) and two GPUs, and
knows no accounting.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthInfo=socket={folder}/munge/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,defer_batch=0
SlurmdParameters=config_overrides
MinJobAge=3600
EnforcePartLimits=ALL
ReturnToService=2
SlurmctldTimeout=60
SlurmdTimeout=60
InactiveLimit=0
KillWait=30
Waittime=0
DefMemPerCPU=500
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=24000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
# Two devices that are no GPUs, but that SLURM can hand out like some.
GENERIC_RESOURCES = """\
AutoDetect=off
NodeName={host} Name=gpu File=/dev/null
NodeName={host} Name=gpu File=/dev/zero
"""


def why_not() -> str | None:
    """What keeps this machine from having one; None if nothing does."""
    if os.geteuid() != 0:
        return "starting SLURM needs root"
    missing = [
        tool for tool in ("munged", "slurmctld", "slurmd", "sbatch", "srun") if not shutil.which(tool, path=_PATH)
    ]
    return f"not installed: {', '.join(missing)} (Debian: apt-get install slurm-wlm munge)" if missing else None


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


class OneNodeSlurm:
    def __init__(self, folder: Path, cpus: int = 4) -> None:
        self.folder = folder
        self.cpus = cpus
        self.configuration = folder / "slurm.conf"
        # The step of a job drops SLURM_CONF: srun gets it from a script in its place.
        tools = folder / "bin"
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(self.configuration),
            "PATH": os.pathsep.join([str(tools), _PATH]),
        }

    def start(self) -> None:
        host = socket.gethostname().split(".")[0]
        for name in ("state", "spool", "log", "munge", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o711)
        key = self.folder / "munge" / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        ports = dict(zip(("controller_port", "node_port"), _free_ports(2), strict=True))
        self.configuration.write_text(CONFIGURATION.format(host=host, folder=self.folder, cpus=self.cpus, **ports))
        (self.folder / "gres.conf").write_text(GENERIC_RESOURCES.format(host=host))
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.configuration} exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        munge = {
            "key-file": key,
            "socket": self.folder / "munge" / "munge.socket",
            "pid-file": self.folder / "munge" / "munged.pid",
            "log-file": self.folder / "munge" / "munged.log",
            "seed-file": self.folder / "munge" / "munged.seed",
        }
        self.call("munged", "--force", *(f"--{name}={value}" for name, value in munge.items()))
        self.start_controller("-c")
        self.call("slurmd", "-c", "-f", str(self.configuration))
        self._wait_until_idle(host)

    def call(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def start_controller(self, *options: str) -> None:
        self.call("slurmctld", *options, "-f", str(self.configuration))

    def kill_controller(self) -> None:
        self._end("slurmctld.pid", signal.SIGKILL)

    def jobs(self) -> list[tuple[str, str, str, str]]:
        """Id, state, comment and GPUs of every job since the start, done ones too."""
        listing = self.call("squeue", "--noheader", "--states=all", "--sort=i", "--format", "%A|%T|%k|%b")
        return [tuple(line.strip().split("|", 3)) for line in listing.splitlines() if line]

    def stop(self) -> None:
        for name in ("slurmd.pid", "slurmctld.pid", "munge/munged.pid"):
            self._end(name, signal.SIGTERM)

    def _end(self, pid_file: str, number: signal.Signals) -> None:
        path = self.folder / pid_file
        if not path.exists():
            return
        process = int(path.read_text())
        try:
            os.kill(process, number)
            while True:
                os.kill(process, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            path.unlink(missing_ok=True)

    def _wait_until_idle(self, host: str) -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                if self.call("sinfo", "--noheader", "-N", "-n", host, "-p", "main", "-o", "%T").strip() == "idle":
                    return
            except RuntimeError:
                pass
            time.sleep(0.5)
        raise RuntimeError(f"SLURM does not become idle; its logs are in {self.folder / 'log'}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


if __name__ == "__main__":
    if problem := why_not():
        sys.exit(problem)
    cluster = OneNodeSlurm(Path(sys.argv[1]).absolute(), *map(int, sys.argv[2:]))
    cluster.start()
    print(f"export SLURM_CONF={cluster.configuration} PATH={cluster.folder / 'bin'}:$PATH")
