"""Feed the SignalR core whatever reaches new code: ``python -m tests.fuzz folder [-max_total_time=seconds]``.

Needs atheris. What was tried and led somewhere is kept in the folder's ``corpus``, and the next run goes on from there.
What broke a promise is kept as ``crash-...``; ``python -m tests.fuzz.target folder/crash-...`` shows it again.

The fuzzer ends its own process, with or without a finding. So it runs in a second one, whose last words are counted.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.grammar import KEYS, RECORDS, VALUES

DEFAULT = ["-max_total_time=60"]
LONGEST_INPUT = 4_096
SLOWEST_INPUT_S = 10


def main(folder: Path, options: list[str]) -> int:
    """Fuzz until the time is up or an input breaks a promise; say how much was tried, and return the exit status."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(RECORDS):
        for end in (0, 1):
            (corpus / f"seed-{number}-{end}").write_bytes(bytes([end, 0, 0]) + record + b"\x1e" + record + b"\x1e")
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in _words()), encoding="ascii")
    before = set(folder.glob("*-*"))
    fuzzer = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.fuzz.target", str(corpus)),
            *(f"-dict={words}", f"-artifact_prefix={folder}/", f"-max_len={LONGEST_INPUT}"),
            *(f"-timeout={SLOWEST_INPUT_S}", "-print_final_stats=1"),
            *(options or DEFAULT),
        ],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    assert fuzzer.stderr is not None
    told = dict[str, int]()
    for line in fuzzer.stderr:
        sys.stderr.write(line)
        if match := re.match(r"stat::(\w+):\s+(\d+)", line):
            told[match[1]] = int(match[2])
    status = fuzzer.wait()
    findings = sorted(set(folder.glob("*-*")) - before)
    executions, rate = told.get("number_of_executed_units", 0), told.get("average_exec_per_sec", 0)
    print(f"{executions} executions, {rate} per second, {len(findings)} findings")
    for finding in findings:
        print(f"  {finding}")
    if status == 0 and not findings and executions == 0:
        print("nothing was tried")
        return 1
    return status or min(1, len(findings))


def _words() -> list[bytes]:
    """What the fuzzer may put anywhere; long values it finds by itself."""
    words = ["\x1e", "{", "}", "[", "]", ",", ":", *(f'"{key}":' for key in KEYS), *VALUES]
    return [octets for word in words if 0 < len(octets := word.encode("utf-8", "surrogatepass")) <= 40]


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
