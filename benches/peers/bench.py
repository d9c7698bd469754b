#!/usr/bin/env python3
"""Side by side: racing reverse proxies, checked or loaded by the same clients over the same backends.

  bench.py check [--only a,b] [--proxy NAME=COMMAND]...       does it race as it should?
  bench.py run [--scenarios S1-64,'S2*'] [--reps 3] [--secs 6] [--out FOLDER]
  bench.py table [--readme] RAW.json                          the tables of a run
  bench.py plot RAW.json                                      bench.svg and growth.svg beside it
  bench.py list                                               proxies, and what the others lack

A proxy is a folder with a `start PORT URL1,URL2,...` that becomes the proxy by `exec`; without arguments it exits with 0 if
it can, or with 3 and a reason. Or it is --proxy 'NAME=COMMAND' with {port} and {backends}. `direct` is the first backend
itself. `G-*` are the scenarios of growth. Everything listens on 127.0.0.1, from --base-port on, 1,000 ports.
"""

import argparse
import functools
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from harness import check, load, plot, report
from harness.processes import CannotPlay, Ports
from harness.scenarios import chosen

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILT = os.path.join(ROOT, "target/peers/release")


class Setup:
    """What all runs have in common."""

    def __init__(self, args, folder):
        self.folder, self.backend = folder, args.backend
        self.full_handshakes = os.path.join(os.path.dirname(args.backend), "libfull_handshakes.so")
        self.warm, self.seconds, self.reps, self.retries = args.warm, args.secs, args.reps, args.retries
        self.foreign, self.quiet, self.budget = args.foreign, args.quiet, args.budget
        self.ports = Ports(args.base_port)
        self.pinned = [{int(core) for core in part.split(",")} for part in args.pin.split(":")] if args.pin else None

    @functools.cached_property
    def certificate(self):
        """What proxies show to clients that come by HTTPS, and its key, in one file."""
        path = os.path.join(self.folder, "clients.pem")
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=127.0.0.1"
        command += " -addext subjectAltName=IP:127.0.0.1 -keyout"
        subprocess.run([*command.split(), path, "-out", path], check=True, capture_output=True)
        return path

    def cores_for(self, scenario):
        """The proxy's cores, and those of all other processes."""
        if self.pinned:
            return self.pinned
        if not scenario.cores:
            return None, None
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < scenario.cores:
            raise CannotPlay
        return set(cores[: scenario.cores]), set(cores[scenario.cores :] or cores)


def found_proxies(args):
    """The commands of those that can be started, and why the others can't."""
    commands, skipped = {load.DIRECT: ""}, {}
    for name in sorted(os.listdir(HERE)):
        start = os.path.join(HERE, name, "start")
        if os.access(start, os.X_OK):
            probe = subprocess.run([start], capture_output=True, text=True)
            if probe.returncode:
                skipped[name] = probe.stderr.strip()
            else:
                commands[name] = f"{shlex.quote(start)} {{port}} {{backends}}"
    for proxy in args.proxy:
        name, _, command = proxy.partition("=")
        commands[name] = command
    wanted = args.only.split(",") if args.only else list(commands)
    for name in wanted:
        if name not in commands:
            raise SystemExit(f"bench: {name} {skipped.get(name, 'is unknown')}; there are: {' '.join(commands)}")
    unwanted = args.skip.split(",")
    return {name: commands[name] for name in wanted if name not in unwanted}, {} if args.only else skipped


def first_line(*command):
    """What a program says first, wherever it says it. None if it isn't there."""
    path = shutil.which(command[0], path=os.environ["PATH"] + ":/usr/sbin")
    if not path:
        return None
    told = subprocess.run([path, *command[1:]], capture_output=True, text=True, cwd=ROOT)
    return (told.stdout + told.stderr).strip().split("\n")[0]


def versions():
    with open(os.path.join(HERE, "Cargo.lock")) as lock:
        crates = dict(re.findall(r'name = "(tokio|hyper|hyper-util|rustls)"\nversion = "([^"]+)"', lock.read()))
    told = {
        "red-tentacle": first_line("git", "describe", "--always", "--dirty", "--tags"),
        "rustc": first_line("rustc", "--version"),
        "go": first_line("go", "version", "target/peers/go-seed"),
        "nginx": first_line("nginx", "-v"),
        "openssl": first_line("openssl", "version"),
        "haproxy": first_line("haproxy", "-v"),
        "wrk": first_line("wrk", "-v"),
    }
    cleaned = {name: re.search(r"\d[\w.+:~-]*", text.rsplit(": ", 1)[-1]) for name, text in told.items() if text}
    found = {name: match.group() for name, match in cleaned.items() if match}
    if told["red-tentacle"]:
        found["red-tentacle"] = told["red-tentacle"]
    return found | crates


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    processor = model.group(1) if model else platform.machine()
    return f"{len(os.sched_getaffinity(0))} cores ({processor}), {memory:.0f} GiB, Linux {kernel}"


def write_json(path, data):
    """Readable, a run on each line."""
    with open(path + ".new", "w") as file:
        file.write('{"meta": ' + json.dumps(data["meta"], indent=1) + ',\n"runs": {')
        for place, (scenario, cells) in enumerate(data["runs"].items()):
            file.write(("," if place else "") + f"\n{json.dumps(scenario)}: {{")
            for number, (name, runs) in enumerate(cells.items()):
                lines = ",\n".join(json.dumps(rounded(run)) for run in runs)
                file.write(("," if number else "") + f"\n{json.dumps(name)}: [\n{lines}]")
            file.write("}")
        file.write("}}\n")
    os.replace(path + ".new", path)


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    # Failures may name files.
    return value.replace(ROOT, ".") if isinstance(value, str) else value


def draw(folder, data):
    for name, svg in (("bench.svg", plot.bars(data)), ("growth.svg", plot.growth(data))):
        if svg:
            with open(os.path.join(folder, name), "w") as file:
                file.write(svg)


def run(args, setup, proxies, skipped):
    os.makedirs(args.out, exist_ok=True)
    path = os.path.join(args.out, "raw.json")
    scenarios = chosen(args.scenarios)
    data = {
        "meta": {
            "when": time.strftime("%Y-%m-%d"),
            "machine": machine(),
            "versions": versions(),
            "command": shlex.join(["benches/peers/run", *sys.argv[2:]]).replace(ROOT + "/", ""),
            "reps": args.reps,
            "seconds": args.secs,
            "skipped": skipped,
            "scenarios": [scenario._asdict() for scenario in scenarios],
        },
        "runs": {scenario.name: {name: [] for name in proxies} for scenario in scenarios},
    }
    if args.resume and os.path.exists(path):
        with open(path) as file:
            old = json.load(file)
        known = {scenario["name"] for scenario in data["meta"]["scenarios"]}
        data["meta"]["scenarios"] += [
            scenario for scenario in old["meta"]["scenarios"] if scenario["name"] not in known
        ]
        data["meta"]["command"] = old["meta"]["command"] + " && " + data["meta"]["command"]
        for scenario, cells in old["runs"].items():
            data["runs"][scenario] = data["runs"].get(scenario, {}) | cells
    load.run_all(setup, scenarios, proxies, data, lambda: write_json(path, data))
    with open(os.path.join(args.out, "table.md"), "w") as file:
        file.write(report.table(data))
    draw(args.out, data)
    print("\n" + (report.readme if report.REFERENCE in proxies else report.table)(data))
    return 0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["run", "check", "table", "plot", "list"])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--proxy", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--only", default="", help="these proxies, between commas, in this order")
    parser.add_argument("--skip", default="", help="all but these")
    parser.add_argument(
        "--scenarios", type=lambda text: text.split(","), default=[], help="names or patterns; all S* without"
    )
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--secs", type=int, default=6)
    parser.add_argument("--warm", type=int, default=1, help="seconds of load before each run")
    parser.add_argument("--base-port", type=int, default=24000)
    parser.add_argument("--pin", default="", metavar="PROXY:LOAD", help="cores for all scenarios, as in 0:1")
    parser.add_argument(
        "--foreign", type=float, default=0.10, help="a run is disturbed when others took more of the CPUs"
    )
    parser.add_argument(
        "--retries", type=int, default=3, help="further passes for runs that were disturbed, for each repetition"
    )
    parser.add_argument(
        "--quiet", type=float, default=300, help="before a run, wait for others at most this many seconds"
    )
    parser.add_argument("--budget", type=float, default=float("inf"), help="start no run after this many seconds")
    parser.add_argument("--resume", action="store_true", help="add to the runs in --out")
    parser.add_argument("--backend", default=os.path.join(BUILT, "backend"))
    parser.add_argument(
        "--out", default=os.path.join(ROOT, "benches/runs", time.strftime("%Y-%m-%d")), metavar="FOLDER"
    )
    parser.add_argument("--md", default="", help="write the checks' table here")
    parser.add_argument("--readme", action="store_true", help="the table as docs/benchmark.md has it")
    return parser.parse_intermixed_args()


def main():
    def interrupt(*_):
        # So that what was started is stopped.
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    args = arguments()
    if args.verb in ("table", "plot"):
        for path in args.files:
            with open(path) as file:
                data = json.load(file)
            if args.verb == "plot":
                draw(os.path.dirname(path) or ".", data)
            else:
                print((report.readme if args.readme else report.table)(data), end="")
        return 0
    proxies, skipped = found_proxies(args)
    for name, reason in skipped.items():
        print(f"skipped: {name}: {reason}", file=sys.stderr)
    if args.verb == "list":
        print("\n".join(proxies))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        setup = Setup(args, folder)
        if args.verb == "run":
            return run(args, setup, proxies, skipped)
        proxies.pop(load.DIRECT, None)
        table, is_right = check.check_all(setup, proxies, setup.ports)
        print("\n" + table)
        if args.md:
            with open(args.md, "w") as file:
                file.write(table)
        return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
