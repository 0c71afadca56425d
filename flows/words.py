"""The words that verbs take. Python's own library is enough to read them, on Python 3.9 as well: see `flows/verbs.py`."""

from dataclasses import dataclass

from posttrain.methods import named_methods


@dataclass(frozen=True)
class Word:
    """What may stand behind a verb.

    Attributes:
        name: as make has it.
        example: of a value.
        says: what it decides.
        is_choice: its value is one of a few names, whose case does not matter.
    """

    name: str
    example: str
    says: str
    is_choice: bool = False


METHOD = Word("METHOD", "dpo", f"{named_methods()}; dpo where it is left out", is_choice=True)
DATA = Word("DATA", "mine", "the dataset, a folder of data/; world where it is left out")
METHODS_WORD = Word("METHODS", '"sft dpo reft"', "methods to speak of; all where it is left out", is_choice=True)
SET = Word("SET", '"dpo.beta=0.2 seed=1"', "settings, of docs/settings.md")
FILE = Word("FILE", "train.jsonl", "the file to read")
PORT = Word("PORT", "5001", "the port of the page, where another program has the usual one")
OPEN = Word("OPEN", "0", "0 keeps the browser closed; else it is opened where there is a terminal and a display")
COMPARE = (
    Word("METHODS", '"sft dpo reft"', "which methods; sft dpo reft rlhf rlaif ppo where it is left out", is_choice=True),
    Word("SEEDS", "3", 'how many seeds, 3 where it is left out; or which: "10,11,12"'),
    DATA,
    Word("SET", '"dpo.beta=0.2"', "settings of every pipeline, of docs/settings.md; seeds are those of SEEDS"),
    Word(
        "BUDGET",
        "labels:2000",
        "what each method may use: defaults, labels:N, tokens:N, flops:N or seconds:N; several for a curve",
    ),
    Word("TUNE", "20", "trials that each method gets to choose its settings with"),
    Word("WORKERS", "2", "pipelines at a time; as many as cores where it is left out"),
    Word("RUNNER", "dask", "where they run: processes, dask or ray", is_choice=True),
    Word("DRY_RUN", "1", "print what would be run, what is there already, and about how long it takes; run nothing"),
    Word("LOGS", '"a.jsonl b.jsonl"', "compare logs of lm-evaluation-harness, inspect_ai or a plain form; nothing is trained"),
)
IMPORT = (
    Word("FORMAT", "gsm8k", "the form of its rows: docs/formats.md has each", is_choice=True),
    FILE,
    Word("NAME", "mine", "the name of the dataset that is made"),
    Word("MAP", '"prompt=question completion=answer"', "which column of the file is which field"),
    Word("HELD_OUT", "test.json", "a second file: the rows that its publisher holds out; without it, FILE is split"),
    Word("SKIP_BAD", "1", "put rows that cannot be read aside, instead of refusing the file"),
)
SCALE = (
    Word("MODEL", "7e9", "a number of weights, or a base as model.base takes it; that of the settings where it is left out"),
    Word("METHOD", "reft", "one method, part by part; a table of all trainings where it is left out", is_choice=True),
    Word("GPUS", "8", "how many GPUs train together and share the weights; 1 where it is left out"),
    Word("GB", "80", "the memory of one GPU, GB; 80 where it is left out"),
    SET,
)
UP = (
    Word("PORT", "4201", "the port of Prefect's page, 4200 where it is left out"),
    Word("UNIT", "1", "print a unit of systemd, for services that come back with the machine; start nothing"),
    SET,
)
GRADE = (
    Word("GRADER", "answer", "answer, program, or a file with settings (docs/graders.md)"),
    FILE,
    Word("OUT", "audit.jsonl", "where each completion's mark is written"),
    Word("FORCE", "1", "overwrite OUT where it is there already"),
)
WHY = Word("WHY", '"better on fractions"', "why, in a sentence, for the history")
PROMOTE = (
    Word("VERSION", "7", "the version to promote: its number, or challenger"),
    WHY,
    DATA,
    Word("FORCE", "1", "promote it although the gate says no, or cannot compare; the history says so"),
    SET,
)
RETRAIN = (
    METHOD,
    DATA,
    SET,
    Word("FORCE", "1", "go through pipeline and gate although nothing has changed; the gate is asked all the same"),
)
MONITOR = (
    Word("FILE", "prompts.jsonl", "the new prompts: any format that import reads, or a .txt file with one prompt a line"),
    DATA,
    Word("FORMAT", "records", "the form of its rows, where it is not told by itself: docs/formats.md", is_choice=True),
    Word("MAP", '"prompt=question"', "which column of the file is which field"),
    SET,
)
PROMPT = Word("PROMPT", '"Tom has 12 apples, finds 5. How many?"', "the prompt; - reads standard input")
TEMPERATURE = Word("TEMPERATURE", "1.0", "0 where it is left out, the likeliest token each time; else tokens are drawn, by seed")
ASK = (
    PROMPT,
    Word(
        "MODELS",
        '"base sft dpo"',
        "versions (3, champion), models of the last run (base, sft, dpo), smollm2, GGUF files, directories, hub ids",
    ),
    Word("VERSION", "3", "a version of the registered model, as one of MODELS"),
    TEMPERATURE,
    Word("FILE", "prompts.jsonl", "instead of PROMPT, many: any format that import reads, or a .txt file with one prompt a line"),
    Word("FORMAT", "records", "of FILE: the form of its rows, where it is not told by itself: docs/formats.md", is_choice=True),
    Word("MAP", '"prompt=question"', "of FILE: which column is which field"),
    DATA,
    SET,
)
LABELS = (
    DATA,
    Word("OUT", "labels-state.json", "a file for the state as JSON"),
    Word("FINISH", "1", "make the labels of a batch a part of the dataset, a new version; the newest that is not finished"),
    Word(
        "BATCH",
        "20261129-180501-ab12",
        "of FINISH: which one; with EXPORT: its pairs are written, to be labelled in the other tool",
    ),
    Word("EXPORT", "label-studio", "write the labels to FILE: jsonl, label-studio, mlflow or argilla", is_choice=True),
    Word("IMPORT", "label-studio", "add the labels of FILE: jsonl, label-studio, mlflow or argilla", is_choice=True),
    Word("FILE", "labels.json", "of EXPORT or IMPORT"),
    Word("FORCE", "1", "replace a file that is there; with FINISH, take what is there of a batch that wants more answers"),
    SET,
)
CHAT = (
    Word("MODEL", "champion", "one model, as make ask takes it; where it is left out, the champion or that of the last run"),
    TEMPERATURE,
    DATA,
    SET,
)
AB = (
    Word("MODELS", '"challenger champion"', "two models, as make ask takes them; challenger and champion where it is left out"),
    Word("NAME", "Ada", "who picks; the name of the system's user where it is left out"),
    TEMPERATURE,
    DATA,
    SET,
)
OF_VERSION = Word("VERSION", "3", "the version: its number, champion, challenger or previous")
EXPORT = (
    OF_VERSION,
    Word("FORMAT", "gguf", "hf, a Hugging Face directory, where it is left out; or gguf, one file for llama.cpp", is_choice=True),
    Word("TYPE", "q8_0", "weights of a GGUF file: f32, f16 (where it is left out), bf16 or q8_0", is_choice=True),
    Word("TO", "exported", "the folder that is made"),
    Word("FORCE", "1", "replace the export that lies there"),
    DATA,
    SET,
)
SERVE = (
    OF_VERSION,
    Word("PORT", "8001", "the port; 8000 or the next free one where it is left out"),
    DATA,
    SET,
)
LABEL = (
    DATA,
    Word("METHOD", "dpo", "whose model is asked for the samples: that which this method starts from", is_choice=True),
    Word("BATCH", "200", "how many items a new batch has; 200 where it is left out"),
    Word("PER_ITEM", "2", "how many people label each item of a new batch; 1 where it is left out"),
    Word("PEOPLE", '"ada ben"', "who labels, each by a personal link; you alone where a new batch names nobody"),
    Word("PORT", "8011", "the port of the page, 8010 where it is left out"),
    Word("NEW", "1", "make another batch, although one is not finished"),
    Word("LINKS", "1", "only make and print links for PEOPLE; the page may be served by another command meanwhile"),
    Word("REVOKE", "ada", "only end the link of somebody; the labels that he gave stay"),
    SET,
)
SCHEDULE = (
    METHOD,
    DATA,
    Word("CRON", '"0 3 * * *"', "when: minute, hour, day of the month, month, day of the week"),
    Word("TZ", "Europe/Berlin", "the time zone of CRON, UNTIL and the list; UTC where it is left out"),
    Word(
        "ON", "data", "instead of CRON: data (a new version of the dataset) or drift (an alarm of make monitor)", is_choice=True
    ),
    Word("FILE", "prompts.jsonl", "run make monitor on this file, instead of a retraining; FORMAT and MAP as there"),
    Word("FORMAT", "records", "of FILE: the form of its rows", is_choice=True),
    Word("MAP", '"prompt=question"', "of FILE: which column is which field"),
    SET,
    Word("UNTIL", "2027-01-01", "no run starts after this day, or this moment: 2027-01-01T12:00"),
    Word("RUNS", "10", "how many runs in all"),
    Word("CATCH_UP", "1", "make up for times that were missed while nobody was there; else they are skipped"),
    Word("NAME", "nightly", "of the schedule; dataset and method where it is left out. One of this name is replaced"),
    Word("POOL", "gpu", "the work pool whose workers run it (make deploy); that of make up where it is left out"),
    Word("PAUSE", "nightly", "pause the schedule of this name"),
    Word("RESUME", "nightly", "let it go on"),
    Word("DELETE", "nightly", "delete it"),
)
DEPLOY = (
    Word("POOL", "docker", "the kind of work pool: process, docker or kubernetes", is_choice=True),
    Word("NAME", "gpu", "of the pool and of all that is made for it; posttrain-<kind> where it is left out"),
    Word("IMAGE", "registry.example.org/posttrain:1", "the image that runs have; Kubernetes must be able to pull it"),
    Word("TO", "deploy", "the folder in which a folder of this NAME is made"),
    Word("FORCE", "1", "write over files that were changed by hand"),
)
DOCTOR = (
    Word("FIX", "1", "mend what is safe; the rest is told"),
    Word("DEEP", "1", "read every byte of every result and model, instead of some"),
    SET,
)
BACKUP = (
    Word("TO", "monday.tar.zst", "where it is written: a folder that is not there yet, or a file that ends in .tar.zst"),
    Word("ALL", "1", "take also what can be made again at a cost: every version's files, every stage, every version of the data"),
    SET,
)
RESTORE = (Word("FROM", "monday.tar.zst", "the backup"), Word("FORCE", "1", "put it in the place of what lies here"), SET)
KEEP = Word("KEEP", "10", "how many of the newest pipelines stay, or for how long: 30d; only what is older goes")
CLEAN = (KEEP, Word("APPLY", "1", "remove what KEEP finds; else it is only listed"), SET)
OF_EVERY_VERB = (
    Word("PYTHON", "python3.12", "which Python makes the environment; it may stand in the shell's environment too"),
    Word("VENV", ".venv", "the folder of the environment"),
)
