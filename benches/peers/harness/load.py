"""Loads a proxy, and reads off what it did and what it took."""

import http.client
import json
import os
import shutil
import ssl
import statistics
import subprocess
import threading
import time

from .processes import Backends, CannotPlay, Proxy, Sampler, cpu, cpu_of_others, descriptors, machine, spawn, tree

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The name under which the first backend is loaded itself.
DIRECT = "direct"
# It knows plain requests only.
LIMIT = "race-floor"


def wrk(setup, scenario, port, seconds, cores):
    """What wrk.lua prints, and the CPU seconds that wrk took."""
    # A full handshake costs wrk more than it does any proxy: with one thread it would be the limit.
    threads = 2 if scenario.closes and scenario.is_https else 1
    command = [
        "wrk",
        f"-t{threads}",
        f"-c{scenario.connections}",
        f"-d{seconds}s",
        "--timeout",
        "20s",
        "-s",
        os.path.join(HERE, "wrk.lua"),
    ]
    environment = {}
    if scenario.closes:
        command += ["-H", "Connection: close"]
    if scenario.closes and scenario.is_https:
        environment["LD_PRELOAD"] = full_handshakes(setup)
    scheme = "https" if scenario.is_https else "http"
    command += [f"{scheme}://127.0.0.1:{port}/", "--", scenario.method, str(scenario.body)]
    process = spawn(command, environment, cores, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = []
    reader = threading.Thread(target=lambda: output.append(process.stdout.read().decode()), daemon=True)
    reader.start()
    until = time.monotonic() + seconds + 25
    while True:
        pid, process.returncode, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > until:
            process.kill()
            until = float("inf")
        time.sleep(0.02)
    reader.join(2)
    for line in "".join(output).splitlines():
        if line.startswith("JSON "):
            return json.loads(line[5:]) | {"cpu": used.ru_utime + used.ru_stime}
    raise RuntimeError(f"wrk has no result: {''.join(output)[-300:]}")


def full_handshakes(setup):
    """What keeps wrk from resuming sessions. Where it would be of no effect, there is no run."""
    if not os.path.exists(setup.full_handshakes):
        raise RuntimeError(f"{setup.full_handshakes} is not built")
    with open(shutil.which("wrk"), "rb") as file:
        if b"libssl.so" not in file.read():
            raise RuntimeError("wrk has its own OpenSSL, so it would resume sessions")
    return setup.full_handshakes


def wait_until_quiet(busy_max, patience):
    """Waits, but not for ever, until other processes leave the machine alone."""
    until, is_told = time.monotonic() + patience, False
    while time.monotonic() < until:
        before, began = machine(), time.monotonic()
        time.sleep(0.5)
        after, seconds = machine(), time.monotonic() - began
        busy = sum(after[name] - before[name] for name in ("user", "system", "steal")) / (seconds * os.cpu_count())
        if busy < busy_max:
            return
        if not is_told:
            print(f"     waiting for a quiet machine ({100 * busy:.0f} % busy)", flush=True)
            is_told = True


def first_request(setup, scenario, port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=8)
    if scenario.is_https:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(setup.certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=8, context=context)
    connection.request(scenario.method, "/", b"x" * scenario.body if scenario.body else None)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"the first request got {answer.status}")


def run(setup, scenario, name, command, ports):
    """One run, from start to stop. Gives its figures."""
    if name == LIMIT and not scenario.is_plain:
        raise CannotPlay
    cores, load_cores = setup.cores_for(scenario)
    base, port = ports.next()
    backends = Backends(setup, scenario.backends, base, load_cores)
    try:
        if name == DIRECT:
            if backends.has_tls or scenario.is_https:
                raise CannotPlay
            return loaded(setup, scenario, backends, backends.ports[0], None, load_cores)
        proxy = Proxy(setup, name, command, port, backends, cores, scenario.is_https)
        try:
            return loaded(setup, scenario, backends, port, proxy.process.pid, load_cores)
        finally:
            proxy.close()
    finally:
        backends.close()


def loaded(setup, scenario, backends, port, pid, load_cores):
    own = lambda: tree(pid) if pid else []
    first_request(setup, scenario, port)
    if setup.warm:
        wrk(setup, scenario, port, setup.warm, load_cores)
    descriptors_before = sum(map(descriptors, own()))
    backends.counts("/reset")
    sampler = Sampler(pid) if pid else None
    look = lambda: (cpu(own()), cpu([backends.process.pid])[0], cpu_of_others([os.getpid()]), machine())
    (before, before_user), backend_before, others_before, machine_before = look()
    if sampler:
        sampler.start()
    result = wrk(setup, scenario, port, setup.seconds, load_cores)
    (after, after_user), backend_after, others_after, machine_after = look()
    if sampler:
        sampler.end()
    rows = sampler.rows if sampler else [(0, 0, 0, 0, 0)]
    counts = backends.counts()
    requests, seconds = max(result["requests"], 1), result["us"] / 1e6
    capacity = os.cpu_count() * seconds
    of_machine = {name: machine_after[name] - machine_before[name] for name in machine_after}
    per_1000 = lambda count: 1000 * count / requests
    return {
        "requests": result["requests"],
        "seconds": seconds,
        "rps": result["requests"] / seconds,
        "mbps": result["bytes"] / seconds / 1e6,
        "busy_connections": result["requests"] / seconds * result["mean"] / 1e6,
        **{name: result[name] / 1e3 for name in ("p50", "p90", "p99", "p999", "max")},
        "errors": {name: result[name] for name in ("connect", "read", "write", "status", "timeout") if result[name]},
        "cpu": after - before,
        "cpu_user": after_user - before_user,
        "cpu_1000": per_1000(after - before),
        "wrk_cpu": result["cpu"],
        "backend_cpu": backend_after - backend_before,
        # Shares of all CPUs.
        "foreign": max(0.0, others_after - others_before) / capacity,
        **{name: of_machine[name] / capacity for name in ("steal", "idle", "irq")},
        # Of the whole machine.
        "switches": of_machine["ctxt"] / requests,
        "clones": of_machine["processes"] / requests,
        "memory": max(row[4] for row in rows) / 1024,
        "threads": max(row[1] for row in rows),
        "descriptors": [descriptors_before, max(row[2] for row in rows), rows[-1][2]],
        "samples": [row[:4] for row in rows],
        "backend_requests": sum(row["requests"] for row in counts) / requests,
        "new_lines_1000": per_1000(sum(row["accepted"] for row in counts)),
        "aborted_1000": per_1000(sum(row["aborted"] for row in counts)),
    }


def told(figures):
    """A run, on one line."""
    if "failed" in figures:
        return figures["failed"].strip()[:150]
    line = (
        "{rps:9.0f} rps {mbps:7.1f} MB/s p50 {p50:.3f} p99 {p99:.3f} ms cpu {cpu_1000:.3f} s/1000 {memory:.1f} MiB "
        "{threads} threads {new_lines_1000:.1f} lines/1000 foreign {foreign:.1%} idle {idle:.0%}"
    ).format(**figures)
    return (
        line
        + (f" {figures['errors']}" if figures["errors"] else "")
        + (" DISTURBED" if figures["is_disturbed"] else "")
    )


def run_all(setup, scenarios, proxies, data, save):
    """Interleaved: each pass runs every scenario with every proxy once, and begins with another proxy. A run that others
    have disturbed is repeated in a later pass."""
    ports, began = setup.ports, time.monotonic()
    names = list(proxies)
    for number in range(setup.reps * (1 + setup.retries)):
        first = number % len(names)
        is_wanted = lambda scenario, name: (
            sum(not run["is_disturbed"] for run in data["runs"][scenario.name][name]) < setup.reps
        )
        todo = [
            (scenario, name)
            for scenario in scenarios
            for name in names[first:] + names[:first]
            if is_wanted(scenario, name)
        ]
        for done, (scenario, name) in enumerate(todo):
            if time.monotonic() - began > setup.budget:
                return
            wait_until_quiet(setup.foreign, setup.quiet)
            try:
                figures = run(setup, scenario, name, proxies[name], ports)
                figures["is_disturbed"] = max(figures["foreign"], figures["steal"]) > setup.foreign
            except CannotPlay:
                figures = {"failed": "can't be played", "is_disturbed": False}
            except Exception as error:
                figures = {"failed": f"{type(error).__name__}: {error}", "is_disturbed": False}
            data["runs"][scenario.name][name].append({"pass": number} | figures)
            clock = time.monotonic() - began
            print(
                f"[pass {number} {done + 1:3}/{len(todo)} {clock:4.0f} s] {scenario.name:12} {name:18} {told(figures)}",
                flush=True,
            )
            save()


def counted(runs):
    """The runs that count: disturbed ones only where there is no other."""
    whole = [run for run in runs if "failed" not in run]
    return [run for run in whole if not run["is_disturbed"]] or whole


def are_disturbed(runs):
    """Whether no run was left alone."""
    good = counted(runs)
    return bool(good) and all(run["is_disturbed"] for run in good)


def median(runs, name):
    values = [run[name] for run in counted(runs)]
    return statistics.median(values) if values else None
