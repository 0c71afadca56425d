"""How a retraining deals with faults, and who hears of it. None of it enters a stage's key: it decides no result."""

from posttrain.settings.section import NotNegative, Section, WholeNumber


class RetrainingSettings(Section):
    """Retraining (`make retrain`, and what schedules start): faults that pass by themselves, and notices (docs/retraining.md)."""

    retries: WholeNumber = 3
    """How often a retraining is tried again after a fault that may pass: a server that does not answer, a full disk. Finished
    stages are kept, so a new try repeats no training. Three waits of 30, 60 and 120 s outlast the start of each server (3 to 11 s
    on two cores) and hold a schedule's place for 3.5 minutes."""
    wait: NotNegative = 30.0
    """Seconds before the first new try; each later one waits twice as long as the one before."""
    webhook: str = ""
    """Where the address is that hears how retrainings end: env:NAME or file:PATH, of which one line is https://… . Never the
    address itself, since it is as good as a password. Prefect's server calls it (`make up`), and so does an MLflow server
    (`tracking.uri`) when an alias moves. Empty: nobody is told."""
    webhook_secret: str = ""
    """Where the secret is that proves who calls: env:NAME or file:PATH. MLflow signs with it (HMAC-SHA256), Prefect sends it as
    a bearer token. Empty: neither is done."""
