"""Starts and stops programs, and reads from /proc what they use."""

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")


class CannotPlay(Exception):
    """A proxy says by exit code 3 that it lacks something."""


def tree(pid):
    """The process and those below it."""
    pids = [pid]
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as children:
                for child in children.read().split():
                    pids += tree(int(child))
    except OSError:
        pass
    return pids


def stat(pid):
    """The fields of /proc/PID/stat behind the name, or None."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None


def cpu(pids):
    """CPU seconds of these processes, threads that have ended included: all, and in user mode."""
    fields = [found for found in map(stat, pids) if found]
    user = sum(int(found[11]) for found in fields) / TICKS
    return user + sum(int(found[12]) for found in fields) / TICKS, user


def cpu_of_others(roots):
    """CPU seconds of every process outside these trees, with the children that they reaped."""
    own = {pid for root in roots for pid in tree(root)}
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit() and int(entry) not in own]
    return sum(sum(int(field) for field in found[11:15]) for found in map(stat, pids) if found) / TICKS


def status(pid):
    """Threads, and memory in KiB: now and at most."""
    values = {"Threads": 0, "VmRSS": 0, "VmHWM": 0}
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name in values:
                    values[name] = int(value.split()[0])
    except OSError:
        pass
    return values


def descriptors(pid):
    """Their number is the folder's size (Linux 6.2). Listing thousands takes a CPU for milliseconds, which clients then wait for."""
    try:
        return os.stat(f"/proc/{pid}/fd").st_size or len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def machine():
    """What /proc/stat says of all CPUs together, in seconds; context switches and clones as counts."""
    values = {}
    with open("/proc/stat") as file:
        for line in file:
            name, *fields = line.split()
            if name == "cpu":
                user, nice, system, idle, wait, irq, soft, steal = (int(field) / TICKS for field in fields[:8])
                values |= {
                    "user": user + nice,
                    "system": system,
                    "idle": idle + wait,
                    "irq": irq + soft,
                    "steal": steal,
                }
            elif name in ("ctxt", "processes"):
                values[name] = int(fields[0])
    return values


class Sampler(threading.Thread):
    """Looks at a process four times a second: seconds, threads, descriptors, KiB resident, KiB at most."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.over, self.rows = pid, threading.Event(), []

    def sample(self, began):
        pids = tree(self.pid)
        seen = [status(pid) for pid in pids]
        sums = [sum(row[name] for row in seen) for name in ("Threads", "VmRSS", "VmHWM")]
        self.rows.append((round(time.monotonic() - began, 2), sums[0], sum(map(descriptors, pids)), sums[1], sums[2]))

    def run(self):
        began = time.monotonic()
        while not self.over.wait(0.25):
            self.sample(began)
        self.sample(began)

    def end(self):
        self.over.set()
        self.join()


def spawn(command, environment=None, cores=None, **options):
    def prepare():
        if cores:
            os.sched_setaffinity(0, cores)

    return subprocess.Popen(
        command,
        env=os.environ | (environment or {}),
        start_new_session=True,
        preexec_fn=prepare,
        stdin=subprocess.DEVNULL,
        **options,
    )


def stop(process):
    """Ends a process and those below it: by SIGTERM, and by SIGKILL after a second."""
    pids = tree(process.pid)
    for number, patience in ((signal.SIGTERM, 1.0), (signal.SIGKILL, 2.0)):
        for pid in pids:
            try:
                os.kill(pid, number)
            except OSError:
                pass
        until = time.monotonic() + patience
        while time.monotonic() < until:
            process.poll()
            pids = [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
            if not pids:
                break
            time.sleep(0.02)
    process.wait()


def wait_for_port(port, process, patience=10):
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if process.poll() == 3:
            raise CannotPlay
        if process.returncode is not None:
            raise RuntimeError(f"exited with {process.returncode} before it listened")
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port} after {patience} s")


class Ports:
    """They rotate, so that a run doesn't meet the TIME_WAIT sockets of the one before. 60 for backends in each place."""

    def __init__(self, base):
        self.base, self.count = base, 0

    def next(self):
        """The first port for backends, and the proxy's."""
        self.count += 1
        return self.base + self.count % 10 * 60, self.base + 600 + self.count % 400


class Backends:
    """One process with all backends of a run. Its last port is for questions."""

    def __init__(self, setup, specs, base, cores=None):
        self.ports = [base + number for number in range(len(specs))]
        self.questions = base + 59
        self.certificate = os.path.join(setup.folder, "authority.pem")
        specs = [spec and f"{port}:{spec}" for port, spec in zip(self.ports, specs)]
        # The port for questions comes last: when it listens, all do.
        command = [setup.backend, "--cert", self.certificate, *filter(None, specs), "--admin", str(self.questions)]
        self.process = spawn(command, cores=cores)
        wait_for_port(self.questions, self.process)
        self.has_tls = any(spec and spec.endswith(":tls") for spec in specs)
        scheme = "https" if self.has_tls else "http"
        self.urls = [f"{scheme}://127.0.0.1:{port}" for port in self.ports]

    def counts(self, path="/"):
        connection = http.client.HTTPConnection("127.0.0.1", self.questions, timeout=5)
        connection.request("GET", path)
        counts = json.loads(connection.getresponse().read())
        connection.close()
        return counts

    def close(self):
        stop(self.process)


class Proxy:
    def __init__(self, setup, name, command, port, backends, cores=None, is_https=False):
        urls = ",".join(backends.urls)
        environment = {
            "LISTEN": f"127.0.0.1:{port}",
            "PORT": str(port),
            "BACKEND_SERVERS": urls,
            "TMPDIR": setup.folder,
        }
        if backends.has_tls:
            environment["SSL_CERT_FILE"] = backends.certificate
        if is_https:
            environment["TLS_CERT_FILE"] = setup.certificate
        command = command.replace("{port}", str(port)).replace("{backends}", shlex.quote(urls))
        with open(os.path.join(setup.folder, f"{name}.log"), "ab") as log:
            self.process = spawn(["sh", "-c", f"exec {command}"], environment, cores, stdout=log, stderr=log)
        try:
            wait_for_port(port, self.process)
        except Exception:
            stop(self.process)
            raise

    def close(self):
        stop(self.process)
