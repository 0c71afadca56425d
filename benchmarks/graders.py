"""Speed of the graders, and whether they are right on public data: `python -m benchmarks.graders [folder]`.

Prints answers and programs a second, mean ± standard deviation of five repetitions, by the clock and by this process's own
CPU time (a shared machine shows in the difference). With `folder`, which holds gsm8k/ and svamp/ as published, it also marks
every GSM8K solution against itself (right) and against another answer (wrong), and runs every SVAMP equation as a program.
Where gsm8k/ also holds the authors' example_model_solutions.jsonl, their marks are compared with ours.

`python -m benchmarks.graders hostile` prints the worst time and memory that one text of `benchmarks.hostile_texts` takes.
Exit code 1 where a verdict comes out otherwise, or a text takes more than `MOST_SECONDS` or `MOST_BYTES`.
"""

import json
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.hostile_texts import ANSWERS, hostile_texts
from posttrain.graders import Grader, Sample, build_grader
from posttrain.graders.compose import Formula

REPETITIONS = 5
COUNT, PROGRAMS = 20_000, 2_000
MOST_SECONDS, MOST_BYTES = 0.05, 50_000_000
"""What one text may cost a grader."""
STYLES: tuple[Callable[[int], str], ...] = (
    str,
    lambda number: f"{number:,}",
    lambda number: f"${number:,}.00",
    lambda number: f"{number} apples",
    lambda number: f"{number}.5",
)


def answer_samples(count: int, seed: int) -> list[Sample]:
    """Answers that occur once each, so that nothing is remembered from one to the next; half of them are right."""
    draw = random.Random(seed)
    samples = []
    for _ in range(count):
        number = draw.randrange(10**7)
        said = draw.choice(STYLES)(number)
        text = f"There are {number // 3} and {number // 7} of them, so we add both and take the rest away.\nAnswer: {said}"
        samples.append(Sample(text, {"answers": (said.removesuffix(" apples") if draw.random() < 0.5 else str(number + 1),)}))
    return samples


def program_samples(count: int, seed: int) -> list[Sample]:
    """Programs of the form that ReFT trains on."""
    draw = random.Random(seed)
    samples = []
    for _ in range(count):
        have, bags, each = (draw.randrange(2, 1000) for _ in range(3))
        lines = [f"have = {have}", f"bags = {bags}", f"each = {each}", "bought = bags * each", "total = have + bought"]
        body = "\n".join(f"    {line}" for line in [*lines, "return total"])
        samples.append(Sample(f"def solution():\n{body}\n", {"answers": (str(have + bags * each),)}))
    return samples


def timed(grader: Grader, make: Callable[[int, int], list[Sample]], count: int) -> tuple[list[float], list[float]]:
    """Return samples a second of each repetition, by the clock and by CPU time of this process."""
    grader.grade(make(50, 99))
    wall, cpu = [], []
    for repetition in range(REPETITIONS):
        samples = make(count, repetition)
        started, busy = time.perf_counter(), time.process_time()
        grader.grade(samples)
        wall.append(count / (time.perf_counter() - started))
        cpu.append(count / (time.process_time() - busy))
    return wall, cpu


def at_once(seed: int) -> float:
    """Return answers a second of one process while another does the same."""
    samples, grader = answer_samples(COUNT, seed), build_grader("answer")
    started = time.perf_counter()
    grader.grade(samples)
    return len(samples) / (time.perf_counter() - started)


def two_processes() -> list[float]:
    """Return answers a second of two processes together."""
    with get_context("spawn").Pool(2) as pool:
        pool.map(at_once, [0, 1], chunksize=1)
        return [sum(pool.map(at_once, [2 * repetition, 2 * repetition + 1], chunksize=1)) for repetition in range(REPETITIONS)]


def told(name: str, rates: Sequence[float], needed: int | None = None) -> None:
    """Print a rate with its spread."""
    wanted = f"   (needed: {needed:,})" if needed else ""
    print(f"{name:<44} {mean(rates):>9,.0f} ± {stdev(rates):,.0f} a second{wanted}", flush=True)


def gsm8k(folder: Path) -> bool:
    """Mark every solution against itself and against another answer; return whether all came out as they must."""
    solutions = [row["answer"] for name in ("train", "test") for row in rows(folder / "gsm8k" / f"{name}.jsonl")]
    answers = [solution.rpartition("####")[2].strip() for solution in solutions]
    others = [str(int(answer.replace(",", "").partition(".")[0]) + 1) for answer in answers]
    grader = build_grader("answer")

    def right(references: Sequence[str]) -> int:
        samples = [Sample(text, {"answers": (answer,)}) for text, answer in zip(solutions, references, strict=True)]
        return sum(grade.is_right for grade in grader.grade(samples))

    itself, whole, other = right(answers), right(solutions), right(others)
    print(
        f"GSM8K, {len(solutions):,} solutions: right against their answer {itself:,}, against the whole solution {whole:,}, ",
        end="",
    )
    print(f"wrong against another answer {len(solutions) - other:,}", flush=True)
    return itself == whole == len(solutions) and other == 0


def authors_marks(folder: Path) -> bool:
    """Mark the solutions that GSM8K's authors marked by hand; return whether all marks agree, or there are none."""
    path = folder / "gsm8k" / "example_model_solutions.jsonl"
    if not path.is_file():
        return True
    grader, count, agreeing = build_grader("answer"), 0, 0
    for row in rows(path):
        answer = row["ground_truth"].rpartition("A:")[2].strip()
        marked = [value for value in row.values() if isinstance(value, dict)]
        grades = grader.grade([Sample(value["solution"], {"answers": (answer,)}) for value in marked])
        agreeing += sum(grade.is_right == value["is_correct"] for grade, value in zip(grades, marked, strict=True))
        count += len(marked)
    print(f"GSM8K's authors' marks of model solutions: {agreeing:,} of {count:,} agree", flush=True)
    return agreeing == count


def svamp(folder: Path) -> bool:
    """Run every equation as a program; return whether each that gives the problem's answer is right, and no other."""
    problems = json.loads((folder / "svamp" / "SVAMP.json").read_text(encoding="utf-8"))
    values = [Formula(problem["Equation"], names=(), where=problem["ID"])({}) for problem in problems]
    grader = build_grader("program")

    def right(change: float) -> int:
        samples = [
            Sample(f"def solution():\n    return {problem['Equation']}\n", {"answer": problem["Answer"] + change})
            for problem in problems
        ]
        return sum(grade.is_right for grade in grader.grade(samples))

    wrong_in_data = sum(abs(value - problem["Answer"]) > 1e-6 for value, problem in zip(values, problems, strict=True))
    itself, other = right(0), right(1)
    print(f"SVAMP, {len(problems):,} programs: right {itself:,} (of the data, {wrong_in_data} contradict their answer), ", end="")
    print(f"wrong against another answer {len(problems) - other:,}", flush=True)
    return itself == len(problems) - wrong_in_data and other == 0


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


WITH_ANSWERS: dict[str, dict[str, Any]] = {"answer": {"type": "answer", "latex": False}}
"""Mathematics has a time limit of its own, `latex_seconds`, and a process of its own."""
OUTPUT, JSON_FIELD = "{{sample.output_text}}", "{{sample.output_json.answer}}"
WITHOUT_ANSWERS: dict[str, dict[str, Any]] = {
    "string_check": {"type": "string_check", "input": OUTPUT, "reference": "seven", "operation": "ilike"},
    "string_check, JSON": {"type": "string_check", "input": JSON_FIELD, "reference": "seven", "operation": "eq"},
    "format": {"type": "format", "ends_with_answer": True, "is_json": True, "contains": ["seven"], "score": "share"},
    **{
        f"text_similarity, {metric}": {
            "type": "text_similarity",
            "input": OUTPUT,
            "reference": "{{item.reference}}",
            "evaluation_metric": metric,
        }
        for metric in ("fuzzy_match", "bleu", "gleu", "rouge_5", "rouge_l")
    },
}


UNLIKE = " ".join(map(str, range(5_000)))
"""A reference that has nothing in common with any text, which takes most metrics longest."""


def hostile() -> bool:
    """Print each grader's worst text in time and in memory; return whether all stay within the limits."""
    is_within = True
    for name, spec in {**WITH_ANSWERS, **WITHOUT_ANSWERS}.items():
        grader = build_grader(spec)
        records = [{"answers": answers} for answers in ANSWERS] if name in WITH_ANSWERS else [{"reference": UNLIKE}]
        slowest, largest = (0.0, ""), (0, "")
        for size in (20_000, 200_000):
            for text_name, text in hostile_texts(size):
                for record in records:
                    slowest = max(slowest, (cost(grader, Sample(text, record)), text_name))
                if size > 20_000:
                    largest = max(largest, (memory(grader, Sample(text, records[0])), text_name))
        is_within &= slowest[0] <= MOST_SECONDS and largest[0] <= MOST_BYTES
        print(f"{name:<28} at most {slowest[0] * 1e3:5.1f} ms: {slowest[1]}", flush=True)
        print(f"{'':<28} at most {largest[0] / 1e6:5.1f} MB: {largest[1]}", flush=True)
    return is_within


def cost(grader: Grader, sample: Sample) -> float:
    """Return the CPU seconds that one grade takes; one that is over the limit is taken again, since machines are shared."""
    seconds = MOST_SECONDS + 1
    for _ in range(3):
        started = time.process_time()
        grader.grade([sample])
        seconds = min(seconds, time.process_time() - started)
        if seconds <= MOST_SECONDS:
            break
    return seconds


def memory(grader: Grader, sample: Sample) -> int:
    """Return the bytes that one grade takes at its peak, beyond the text itself."""
    tracemalloc.start()
    grader.grade([sample])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main(arguments: Sequence[str]) -> int:
    """Run everything, or what `arguments` asks for; return the exit code."""
    if list(arguments) == ["hostile"]:
        return 0 if hostile() else 1
    wall, cpu = timed(build_grader("answer"), answer_samples, COUNT)
    told("plain answers, one process", wall)
    told("plain answers, one process, by CPU time", cpu)
    told("plain answers, two processes", two_processes(), 20_000)
    wall, _ = timed(build_grader("program"), program_samples, PROGRAMS)
    told("programs, two workers", wall, 1_000)
    wall, _ = timed(build_grader({"type": "program", "workers": 1}), program_samples, PROGRAMS)
    told("programs, one worker", wall)
    return 0 if all(check(Path(folder)) for folder in arguments[:1] for check in (gsm8k, authors_marks, svamp)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
