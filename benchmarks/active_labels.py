"""Does a rule that chooses which pairs are labelled beat chance? Held-out accuracy of reward models on the default world.

    python -m benchmarks.active_labels [rules=random,uncertain,spread] [labels=250,500,1000] [seeds=0,1,2] [world=1] [small=true]
        [keep=FOLDER]

For each seed: base, SFT model and samples in a fresh copy of the repository; a fifth of the sampled questions is held out. The
first labels are random under every rule; then, in rounds, a rule chooses the next ones by the reward models of the labels so far,
`labelling.random_share` of them at random, as `make label` does. All labels are of simulated annotators, who know the answers and
get `labels.flip_rate` of the labels wrong; a pair has the same label under every rule. Each reward model is an ensemble of
MEMBERS, under every rule, so that rules differ in their labels alone.

Prints for each rule and number of labels the accuracy on held-out pairs that gold decides, with its 95 % interval over questions,
and the paired difference from random choice over the same questions of all seeds. `small=true` is a world of seconds, to try it.
`keep` holds what each seed came to, so that a run that was cut off goes on behind its last whole seed.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.pipeline import fresh_copy, in_world
from benchmarks.worlds import DEVELOPMENT
from flows.environment import prepare
from posttrain.feedback.annotators import annotator_noise, simulated_opinion
from posttrain.feedback.labels import split_questions
from posttrain.labelling.items import Candidate
from posttrain.labelling.selections import SELECTIONS, Choice, Opinions, choose
from posttrain.settings.config import Config, merge
from posttrain.statistics.figures import mean
from posttrain.statistics.intervals import Interval, clustered_proportion, paired_difference
from tasks.data.dvc import bring_up_to_date
from tasks.workspace.paths import Paths
from tasks.workspace.quiet import quiet_libraries

MEMBERS = 3
HELD_OUT = 0.2
"""Share of the sampled questions that no reward model learns from."""
PER_QUESTION = 4
"""Pairs of a question that may be labelled."""
FIXED = "random"
"""What the others are held against."""
SMALL: dict[str, Any] = {
    "world": {"seed": 1, "corpus_documents": 1500, "demonstrations": 16, "questions": 60, "held_out": 20, "review_share": 0.0},
    "pretrain": {"steps": 20},
    "tiny": {"width": 48, "layers": 2},
    "sft": {"epochs": 2, "learning_rate": 3e-3},
    "sample": {"per_prompt": 4},
    "reward_model": {"epochs": 1},
    "evaluate": {"max_new_tokens": 40, "samples": 1},
}
Hits = Mapping[str, float]
"""By held-out question the share of its decided pairs that a reward model ranks right."""


@dataclass(frozen=True)
class Pairs:
    """Pairs that may be labelled, and what simulated annotators say of each: that its first response is better, as a number."""

    candidates: Sequence[Candidate]
    said: Sequence[float]


class Bench:
    """One seed's samples, parted into pairs that may be labelled and pairs that measure."""

    def __init__(self, root: Path, *, seed: int) -> None:
        params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        self.config, self.seed = merge(params, [f"seed={seed}", "method=sft"]), seed
        made = _samples(root, self.config)
        from models.load import load_tokenizer
        from tasks.evaluation.reward_model import Texts

        self.start = made.start.path / "model"
        self.texts = Texts(load_tokenizer(made.start.path / "model"))
        every = _candidates(made.samples.path, self.config, seed=seed)
        learnt = set(split_questions([one.question for one in every], share=1 - HELD_OUT, seed=seed)[0])
        self._first: list[Any] = []
        self.pool = _labelled([one for one in every if one.question in learnt], self.config, seed=seed)
        self.held_out = [one for one in every if one.question not in learnt and one.gold in (0.0, 1.0)]

    def curve(self, rule: str, sizes: Sequence[int]) -> dict[int, Hits]:
        """Return by number of labels how well the reward models of the labels rank held-out pairs."""
        places: list[int] = []
        members: list[Any] = []
        found = {}
        for size in sizes:
            places += self._next(rule if places else FIXED, members, places, count=size - len(places))
            members = self._first if self._first and size == sizes[0] else self._trained(places)
            self._first = self._first or members  # the first labels are those of every rule
            found[size] = self._hits(members)
        return found

    def _next(self, rule: str, members: Sequence[Any], taken: Sequence[int], *, count: int) -> list[int]:
        """Return the places of the pairs that are labelled next."""
        left = [place for place in range(len(self.pool.candidates)) if place not in set(taken)]
        row = SELECTIONS[rule]
        asked = [self.pool.candidates[place] for place in left]
        tables = [self._scores(member, asked) for member in members] if row.score else []
        opinions = [Opinions(rewards=tuple(table[at] for table in tables)) for at in range(len(left))] if row.score else []
        seed = self.seed * 1_000 + len(taken)
        how = Choice(count=count, random_share=self.config.labelling.random_share, seed=seed, rule=row)
        return [one.candidate for one in choose(left, opinions, how)]

    def _trained(self, places: Sequence[int]) -> list[Any]:
        """Train reward models on the labels of these pairs."""
        from models.load import device
        from models.reward import reward_network
        from models.reward_training import train_reward_network

        groups, networks = self._groups(places), []
        for member in range(MEMBERS):
            own, pad = self.seed * 1_000 + member, self.texts.reader.pad_token_id
            network = reward_network(self.start, self.config.model, on=device(), pad=pad, seed=own)
            for _ in train_reward_network(network, groups, self.config.reward_model, seed=own):
                pass
            networks.append(network.eval())
        return networks

    def _groups(self, places: Sequence[int]) -> list[Any]:
        from models.reward_training import Group

        of_question: dict[str, list[int]] = {}
        for place in sorted(places):
            of_question.setdefault(self.pool.candidates[place].question, []).append(place)
        groups = []
        for given in of_question.values():
            numbers: dict[tuple[int, ...], int] = {}
            pairs = []
            for place in given:
                one = self.pool.candidates[place]
                first, second = (
                    numbers.setdefault(tuple(self.texts.ids(one.prompt, each.text)), len(numbers)) for each in one.responses
                )
                pairs.append((first, second, self.pool.said[place], 0.0))
            groups.append(Group(responses=list(numbers), pairs=pairs))
        return groups

    def _scores(self, member: Any, asked: Sequence[Candidate]) -> list[tuple[float, ...]]:
        """Return a reward model's score of each response of each pair."""
        from models.reward import score_texts

        texts = list(dict.fromkeys(self.texts.whole(one.prompt, each.text) for one in asked for each in one.responses))
        size = self.config.reward_model.score_batch_size
        scores = dict(zip(texts, score_texts([member], self.texts.reader, texts, batch_size=size), strict=True))
        return [tuple(scores[self.texts.whole(one.prompt, each.text)] for each in one.responses) for one in asked]

    def _hits(self, members: Sequence[Any]) -> Hits:
        tables = [self._scores(member, self.held_out) for member in members]
        hits: dict[str, list[float]] = {}
        for at, one in enumerate(self.held_out):
            lead = mean([table[at][0] - table[at][1] for table in tables])
            hits.setdefault(one.question, []).append(0.5 if lead == 0 else float((lead > 0) == (one.gold == 1.0)))
        return {f"{self.seed}/{question}": mean(values) for question, values in hits.items()}


def _samples(root: Path, config: Config) -> Any:
    """Draw samples of the SFT model, by the stages of a pipeline; return what these made."""
    paths = Paths(root)
    paths.store.mkdir(parents=True, exist_ok=True)
    prepare(paths, is_tiny=True)  # before torch is imported, which reads how many threads it may have
    from flows.alone import alone
    from flows.label_items import make_samples

    data = bring_up_to_date(paths, config.data.name)
    names = ("tokenizer", "validate", "base", "sft", "sample")
    return make_samples(alone(paths, config, lambda line: print(line, file=sys.stderr), data=data.folder, names=names), data)


def _candidates(samples: Path, config: Config, *, seed: int) -> list[Candidate]:
    from tasks.labelling.candidates import Pool, draw_candidates

    settings = config.labels.model_copy(update={"pairs": "random", "pairs_per_prompt": PER_QUESTION})
    return draw_candidates(Pool(samples, "", seed), kind="pair", responses=2, settings=settings)


def _labelled(candidates: Sequence[Candidate], config: Config, *, seed: int) -> Pairs:
    """Let simulated annotators label every pair once; which of them are bought is the rule's business."""
    settings, random = config.labels, Random(f"{seed}/said")
    noise = annotator_noise(annotators=settings.annotators, flip_rate=settings.flip_rate, seed=seed)
    said = [
        simulated_opinion(
            0.5 if one.gold is None else one.gold,
            lengths=(len(one.responses[0].text), len(one.responses[1].text)),
            noise=noise[number % len(noise)],
            ties=settings.ties,
            random=random,
        ).preference
        for number, one in enumerate(candidates)
    ]
    return Pairs(candidates, said)


# --- the table --------------------------------------------------------------------------------------------------------


def rows(found: Mapping[str, Mapping[int, Sequence[Hits]]]) -> list[list[str]]:
    """Return a row a rule and number of labels: accuracy, that of each seed, and the difference from random choice."""
    told = []
    for rule, of_size in found.items():
        for size, seeds in of_size.items():
            pooled = _pooled(seeds)
            own = clustered_proportion(list(pooled.values()))
            gain = "–" if rule == FIXED else _points(_difference(pooled, _pooled(found[FIXED][size])))
            told.append(
                [rule, f"{size:,}", _share(own), " ".join(f"{100 * mean(list(one.values())):.1f}" for one in seeds), gain]
            )
    return told


def _pooled(seeds: Sequence[Hits]) -> Hits:
    return {name: value for one in seeds for name, value in one.items()}


def _difference(ours: Hits, theirs: Hits) -> Interval:
    return paired_difference(list(ours.values()), [theirs[name] for name in ours])


def _share(interval: Interval) -> str:
    return f"{100 * interval.estimate:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _points(interval: Interval) -> str:
    return f"{100 * interval.estimate:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def main(words: list[str]) -> None:
    given = dict(word.partition("=")[::2] for word in words)
    rules = given.get("rules", "random,uncertain,spread").split(",")
    sizes = sorted(int(size) for size in given.get("labels", "250,500,1000").split(","))
    seeds = [int(seed) for seed in given.get("seeds", ",".join(map(str, DEVELOPMENT.seeds))).split(",")]
    found: dict[str, dict[int, list[Hits]]] = {rule: {size: [] for size in sizes} for rule in dict.fromkeys([FIXED, *rules])}
    console, notes = Console(width=150), []
    kept = Path(given["keep"]) if "keep" in given else None
    asked = {name: given.get(name, "") for name in ("world", "small", "labels")} | {"rules": list(found)}
    for seed in seeds:
        file = kept and kept / f"seed-{seed}.json"
        if file and file.is_file():
            told = json.loads(file.read_text(encoding="utf-8"))
            if told["asked"] != asked:
                sys.exit(f"{file} is of another question: {told['asked']}. Take another folder")
            for rule, size in product(found, sizes):
                found[rule][size].append(told["hits"][rule][str(size)])
            notes.append(told["note"])
            continue
        with TemporaryDirectory() as scratch:
            root = in_world(fresh_copy(Path(scratch, "copy")), int(given.get("world", DEVELOPMENT.seed)))
            if given.get("small") == "true":
                (root / "params.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
            started = time.perf_counter()
            bench = Bench(root, seed=seed)
            if len(bench.pool.candidates) < sizes[-1]:
                sys.exit(f"seed {seed} has {len(bench.pool.candidates):,} pairs, and {sizes[-1]:,} labels are asked for")
            made = time.perf_counter()
            with quiet_libraries():
                for rule, of_size in found.items():
                    for size, hits in bench.curve(rule, sizes).items():
                        of_size[size].append(hits)
            notes.append(
                f"seed {seed}: {len(bench.pool.candidates):,} pairs to label, {len(bench.held_out):,} held-out pairs that gold "
                f"decides; models and samples {made - started:.0f} s, rules {time.perf_counter() - made:.0f} s"
            )
        if file:
            hits_of = {rule: {size: of_size[size][-1] for size in sizes} for rule, of_size in found.items()}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"asked": asked, "hits": hits_of, "note": notes[-1]}), encoding="utf-8")
    title = "reward models (3 members) of simulated annotators' labels; held-out pairs that gold decides, 95 % intervals"
    table = Table("rule", "labels", "accuracy %", "of each seed %", "over random (points)", title=title)
    for row in rows(found):
        table.add_row(*row)
    console.print(table, *notes)


if __name__ == "__main__":
    main(sys.argv[1:])
