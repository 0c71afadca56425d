"""When a retraining or a check runs by itself: its times, when a run is dropped, when a schedule ends. No clock is read here."""
